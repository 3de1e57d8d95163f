//go:build !faults

package restic_test

// allKinds is for `make test-faults`; otherwise only what a backup brings back
// is tested on every kind of target, and the rest in a directory.
const allKinds = false
