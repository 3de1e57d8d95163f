package daemon

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// A leak in any of the places that the canary searches is found there, and
// nowhere else.
func TestALeakInEachPlaceIsFound(t *testing.T) {
	began := time.Now().Add(-time.Second)
	for area, leak := range map[string]func(data string, secret []byte) (path string, body []byte){
		"data files": func(d string, s []byte) (string, []byte) { return filepath.Join(d, "postgres/data/base/1/2"), s },
		"write-ahead log": func(d string, s []byte) (string, []byte) {
			return filepath.Join(d, "postgres/data/pg_wal/0001"), append([]byte("xx"), s...)
		},
		"journal": func(d string, s []byte) (string, []byte) {
			return filepath.Join(d, "journal/0001"), []byte(base64.StdEncoding.EncodeToString(s))
		},
		"other files of the data directory": func(d string, s []byte) (string, []byte) {
			return filepath.Join(d, "snapshot.sealed"), []byte(hex.EncodeToString(s))
		},
		"temporary files": func(_ string, s []byte) (string, []byte) {
			return filepath.Join(os.TempDir(), "leak"), bytes.Join(bytes.Split(s, nil), []byte{0})
		},
		"core dumps on disk": func(_ string, s []byte) (string, []byte) { return "core.4711", s },
		"process memory":     nil,
	} {
		t.Run(area, func(t *testing.T) {
			data := t.TempDir()
			t.Setenv("TMPDIR", t.TempDir())
			t.Chdir(t.TempDir())
			secret := keys.PlantedText()
			s := &keys.Search{}
			if err := s.Add("plaintext", secret); err != nil {
				t.Fatal(err)
			}
			put := func(path string, body []byte) {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, body, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, clean := range []string{"postgres/data/base/1/1", "postgres/data/pg_wal/0000", "journal/0000", "node.json"} {
				put(filepath.Join(data, clean), []byte("clean"))
			}
			if leak != nil {
				path, body := leak(data, bytes.Clone(secret))
				put(path, body)
				clear(secret)
			}
			d := &Daemon{config: Config{DataDir: data}}
			d.cluster.Store(&db.Cluster{})
			for _, a := range d.searchAreas(s, began) {
				switch {
				case a.Name == area && len(a.Finds) == 0:
					t.Errorf("not found: %+v", a)
				case a.Name != area && a.Name != "process memory" && len(a.Finds) > 0:
					t.Errorf("found in %s: %+v", a.Name, a.Finds)
				}
			}
			runtime.KeepAlive(secret)
		})
	}
}

func TestWhatCannotBeSearchedIsNeverAPass(t *testing.T) {
	d := &Daemon{config: Config{DataDir: t.TempDir()}} // an external database
	s := &keys.Search{}
	if err := s.Add("plaintext", keys.PlantedText()); err != nil {
		t.Fatal(err)
	}
	for _, a := range d.searchAreas(s, time.Now()) {
		if (a.Name == "data files" || a.Name == "write-ahead log") && a.State != keys.Inconclusive {
			t.Errorf("%+v", a)
		}
	}
}

func TestKeySettingsThatContradictThemselvesAreRefused(t *testing.T) {
	age := &AgeConfig{Recipients: []string{"age1x"}, Identity: config.Secret{File: "id"}}
	for want, c := range map[string]Config{
		"kek-twice":    {Keys: KeysConfig{KEK: config.Secret{File: "kek"}, Age: age}},
		"age-half":     {Keys: KeysConfig{Age: &AgeConfig{Recipients: []string{"age1x"}}}},
		"undo-short":   {Mode: Production, Keys: KeysConfig{Shred: ShredConfig{Undo: config.Duration(time.Minute)}}},
		"kek-previous": {Keys: KeysConfig{Previous: []KEKConfig{{}}}},
	} {
		if err := c.checkKeys(); err == nil || !strings.Contains(codeOf(err), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if err := (Config{Mode: Production, Keys: KeysConfig{Age: age, Previous: []KEKConfig{{Secret: config.Secret{File: "old"}}}}}).checkKeys(); err != nil {
		t.Error(err)
	}
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return problem.From(err).Code
}
