package config_test

import (
	"encoding/json"
	"testing"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/notify"
)

func TestTypesOfOneNameAreDescribedApart(t *testing.T) {
	t.Parallel()
	var both struct {
		Mail   notify.Config `yaml:"mail"`
		Backup backup.Config `yaml:"backup"`
	}
	text, err := config.Schema(&both, "both")
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties map[string]struct {
			Ref string `json:"$ref"`
		}
		Defs map[string]struct{ Properties map[string]any } `json:"$defs"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	for field, holds := range map[string]string{"mail": "from", "backup": "targets"} {
		ref := s.Properties[field].Ref
		if d, ok := s.Defs[ref[len("#/$defs/"):]]; !ok || d.Properties[holds] == nil {
			t.Errorf("%s is described by %s, which has no %s", field, ref, holds)
		}
	}
}
