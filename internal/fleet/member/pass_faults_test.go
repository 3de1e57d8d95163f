//go:build faults

package member_test

import "testing"

// faultsOnly leaves a test to `make test-faults`, which this is.
func faultsOnly(*testing.T) {}
