package audit

import (
	"testing"
)

func verify(t testing.TB, l *Log) Report {
	t.Helper()
	r, err := l.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
