//go:build faults

package verdict_test

import "testing"

func TestManyMoreRandomNetworksNeverAccuseWhoCanBeReached(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	for i := range uint64(2) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			runNetworks(t, 10_000*(i+1), 400)
		})
	}
}
