// Package faults knows what a node survives: its tests run the real binary
// under load, kill it, freeze its database, fill its disk and cut its streams,
// and then compare what clients and providers saw with what the ledger says.
//
// They need the build tag faults: `make test-faults`, or with -short for the
// pass that CI makes.
package faults
