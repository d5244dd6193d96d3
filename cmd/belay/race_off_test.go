//go:build !race

package main

const (
	raceMemory = 1
	raceTime   = 1
)
