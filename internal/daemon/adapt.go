package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// AdaptSettings writes the settings of a node that was lost for the machine
// onto which it is recovered, and returns the file to start it with. What the
// settings name and this machine does not have (secrets, policies,
// certificates) is written beside the data, or, in production, secrets beside
// the key-encryption key. Nothing that is here already is written over.
func AdaptSettings(c kit.Content, dataDir, kek string, paths map[string]string) (file string, err error) {
	var settings Config
	if err := config.Parse("the kit's settings", []byte(c.Settings), &settings); err != nil {
		return "", problem.New(problem.Invalid, "kit-settings", "The settings in the kit cannot be read by this version.").
			WithMend("Use Foundry " + c.Foundry + ", or write a configuration file by hand: docs/runbooks/bare-machine.md.").Wrap(err)
	}
	secrets := filepath.Join(dataDir, "secrets")
	if settings.Mode == Production {
		secrets = filepath.Join(filepath.Dir(kek), "foundry-secrets")
	}
	values := map[string]kit.Secret{}
	for _, s := range c.Secrets {
		values[s.Field] = s
	}
	files := map[string]kit.File{}
	for _, f := range c.Configuration {
		files[f.Path] = f
	}
	err = walkSettings(reflect.ValueOf(&settings).Elem(), "", func(field string, v reflect.Value) error {
		switch s := v.Addr().Interface().(type) {
		case *config.Secret:
			value, ok := values[field]
			if !ok || !s.Set() {
				return nil
			}
			path, err := placeFile(moved(s.File, c.Node.DataDir, dataDir), filepath.Join(secrets, fileOf(field)), value.Value, 0o600)
			*s = config.Secret{File: path}
			return err
		case *string:
			f, ok := files[*s]
			if !namesFile(field) || !ok {
				*s = moved(*s, c.Node.DataDir, dataDir)
				return nil
			}
			path, err := placeFile(moved(*s, c.Node.DataDir, dataDir), filepath.Join(dataDir, "settings", filepath.Base(f.Path)), f.Body, 0o644)
			*s = path
			return err
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	settings.DataDir = dataDir
	settings.Keys.Age, settings.Keys.Previous, settings.Keys.KEK = nil, nil, config.Secret{File: kek}
	for _, k := range c.KEKs[1:] {
		settings.Keys.Previous = append(settings.Keys.Previous, KEKConfig{Secret: config.Secret{File: kek + ".previous-" + k.Fingerprint}})
	}
	for i, t := range settings.Backup.Targets {
		if path := paths[t.Name]; path != "" {
			settings.Backup.Targets[i].Path = path
		}
	}
	if d := settings.Database.BinDir; d != "" {
		if _, err := os.Stat(d); err != nil {
			settings.Database.BinDir = "" // found on this machine instead
		}
	}
	text, err := yaml.Marshal(settings)
	if err != nil {
		return "", fmt.Errorf("writing the settings: %w", err)
	}
	file = filepath.Join(dataDir, "foundry.yaml")
	head := "# The settings of node " + c.Node.Name + ", as of its emergency kit, for this machine.\n"
	return file, replaceFile(file, append([]byte(head), text...), 0o600)
}

// moved gives a path below the old data directory its place below the new one.
func moved(path, old, dataDir string) string {
	if rel, err := filepath.Rel(old, path); err == nil && filepath.IsAbs(path) && filepath.IsLocal(rel) {
		return filepath.Join(dataDir, rel)
	}
	return path
}

// fileOf is a file's name made of a setting's.
func fileOf(field string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '-'
	}, field), "-")
}

// placeFile keeps a path that has this content, and writes the content
// elsewhere where it has not.
func placeFile(path, otherwise string, body []byte, mode fs.FileMode) (string, error) {
	if old, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(old)) == strings.TrimSpace(string(body)) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(otherwise), 0o711); err != nil {
		return "", unusable(otherwise, err)
	}
	if old, err := os.ReadFile(otherwise); err == nil && string(old) != string(body) {
		return "", problem.New(problem.Conflict, "recovery-file-taken", otherwise+" is there already, with another content.").WithMend("Move it away, and run the same command again.")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", unusable(otherwise, err)
	}
	return otherwise, replaceFile(otherwise, body, mode)
}
