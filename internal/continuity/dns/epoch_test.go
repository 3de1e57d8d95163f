package dns

import "testing"

func FuzzAnEpochRecordIsReadOnlyIfItIsOurs(f *testing.F) {
	for _, s := range []string{epochText(7, "00ff"), epochText(1<<64-1, "a"), "", "foundry-epoch=07 of=a", "foundry-epoch=7 of=", "foundry-epoch=7  of=a", "FOUNDRY-EPOCH=7 of=a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if epoch, of, ok := parseEpoch(text); ok && epochText(epoch, of) != text {
			t.Fatalf("%q is read as %d of %q", text, epoch, of)
		}
		if got := unquoted(`"` + text + `"`); len(got) > len(text) {
			t.Fatalf("%q became %q", text, got)
		}
	})
}
