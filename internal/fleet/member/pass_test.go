//go:build !faults

package member_test

import "testing"

// faultsOnly leaves a test that waits for half a minute to `make test-faults`.
func faultsOnly(t *testing.T) {
	t.Helper()
	t.Skip("it waits for half a minute: make test-faults runs it")
}
