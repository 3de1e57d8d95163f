package probe

import (
	"strings"
	"testing"
)

func TestANameIsLettersAndDigitsOfAnyScript(t *testing.T) {
	for name, want := range map[string]bool{
		"mirror": true, "größe-1": true, "日本.git": true, "_x": true, "a+b_c.d-e": true, strings.Repeat("ü", 150): true,
		"": false, "-x": false, ".x": false, "a b": false, "a/b": false, "a\n": false, "a\xff": false, strings.Repeat("ü", 151): false,
	} {
		if got := nameForm(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
