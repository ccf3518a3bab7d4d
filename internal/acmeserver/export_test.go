package acmeserver

import (
	"maps"
	"slices"
)

// ResourceNames lists the kinds of URL that the surface has.
func ResourceNames() []string {
	return slices.Sorted(maps.Keys(resourcesAndServerResources()))
}

func resourcesAndServerResources() map[string]resource {
	all := maps.Clone(resources)
	maps.Copy(all, serverResources)
	return all
}

// Source is what the limit of new accounts goes by.
var Source = source
