//go:build race

package main

// The race detector keeps shadows of memory: between five and ten times of what
// the program itself takes, and as much of its time, as its documentation says.
const (
	raceMemory = 10
	raceTime   = 5
)
