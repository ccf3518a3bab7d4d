//go:build !race

package acme

const raceEnabled = false
