//go:build race

package main

// The race detector keeps shadows of memory: between five and ten times of what
// the program itself takes, as its documentation says.
const raceMemory = 10
