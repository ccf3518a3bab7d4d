//go:build race

package acme

const raceEnabled = true
