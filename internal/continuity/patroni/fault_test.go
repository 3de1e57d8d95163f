//go:build faults

package patroni_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/continuity/patroni"
)

func TestRecordAnswers(t *testing.T) {
	dir := os.Getenv("PATRONI_RECORD")
	if dir == "" {
		t.Skip("PATRONI_RECORD names where real answers are written")
	}
	l := startLab(t, 3)
	p := l.leads("")
	t.Logf("%+v %+v", p, p.Settings)
	c := l.client()
	for _, m := range p.Members {
		s, err := c.Server(t.Context(), m)
		t.Logf("%s: %+v %v", m.Name, s, err)
		k, err := c.Cluster(t.Context(), m)
		t.Logf("%s: %+v %v", m.Name, k, err)
	}
	_ = filepath.Join
	_ = strings.Join
	_ = patroni.Leader
}
