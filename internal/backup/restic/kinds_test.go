//go:build !faults

package restic_test

import "testing"

// allKinds is for `make test-faults`; otherwise only what a backup brings back
// is tested on every kind of target, and the rest in a directory.
const allKinds = false

// faultsOnly leaves a test to `make test-faults`.
func faultsOnly(t *testing.T) {
	t.Helper()
	t.Skip("opening a repository takes half a second of a processor, many times over: make test-faults runs it")
}
