package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/store"
)

// AuditQuery selects audit events; empty fields select all.
type AuditQuery struct {
	Actor      string `query:"actor" doc:"Such as acme:ID, api:NAME, acme-system:TASK."`
	Action     string `query:"action" doc:"Such as certificate_issued."`
	ResourceID string `query:"resource_id" doc:"Such as the id of an order or the serial of a certificate."`
	Page
}

func (a *API) registerAuditEvents() {
	register(a, huma.Operation{OperationID: "list-audit-events", Method: http.MethodGet, Path: "/audit-events", Tags: []string{"Audit log"},
		Summary: "List audit events, the newest first"}, a.listAuditEvents)
}

func (a *API) listAuditEvents(ctx context.Context, in *AuditQuery) (*listOutput[audit.Event], error) {
	all, err := a.cfg.Store.AuditEvents(ctx, store.AuditQuery{
		Actor: in.Actor, Action: in.Action, ResourceID: in.ResourceID, Before: in.Before, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	return pageOf(all, in.Limit, func(e audit.Event) string { return e.ID }, func(e audit.Event) audit.Event { return e }), nil
}
