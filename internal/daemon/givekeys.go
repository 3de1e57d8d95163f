package daemon

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/problem"
)

// giveKeys gives a gateway that joins the keys and the authority of this one,
// so that both can work on one database. Only who takes over from this node by
// the plan in force gets them: it would hold them within a minute anyway.
func (d *Daemon) giveKeys(ctx context.Context, name string, roles []member.Role) (body []byte, why string, err error) {
	if !slices.Contains(roles, member.Gateway) {
		return nil, "", nil
	}
	m := d.Member()
	if m == nil || !d.gives.Load() {
		return nil, "the member that let it in was still starting", nil
	}
	planned := fleet.NewPlanned(m.Store(), d.log, nil)
	if err := planned.Read(ctx); err != nil {
		return nil, "", err
	}
	if why := withheld(survivor.Needs(planned.Plan()), m.Name(), name); why != "" {
		return nil, why, nil
	}
	c := kit.Content{Version: kit.ContentVersion}
	defer c.Wipe()
	if c.KEKs, err = d.kitKEKs(ctx); err != nil {
		return nil, "", err
	}
	if len(c.KEKs) != 1 {
		return nil, "several key-encryption keys are in use on " + m.Name() + ": `foundry keys rewrap` there ends that", nil
	}
	files, err := d.kitFiles()
	if err != nil {
		return nil, "", err
	}
	for _, f := range files {
		if dir := filepath.Dir(f.Path); dir == "keys" || dir == "ca" {
			c.Files = append(c.Files, f)
		}
	}
	body, err = json.Marshal(c)
	return body, "", err
}

// withheld says why a node gets no keys of another; empty: it gets them.
func withheld(needs []survivor.Need, from, to string) string {
	for _, n := range needs {
		if n.From == from && n.To == to {
			return n.Refused
		}
	}
	return fmt.Sprintf("the plan in force does not have %s take over anything from %s", to, from)
}

// TakeKeys puts what another gateway gave in the place of the keys of a data
// directory whose node never ran.
func TakeKeys(c Config, passphrase func(context.Context) ([]byte, error)) func([]byte) (member.Ring, error) {
	return func(body []byte) (member.Ring, error) {
		c := c.withDefaults()
		var given kit.Content
		if err := json.Unmarshal(body, &given); err != nil || given.Version != kit.ContentVersion || len(given.KEKs) != 1 {
			return nil, problem.New(problem.Unsupported, "given-keys-version", "The keys that the fleet gave cannot be read by this version.").WithMend("Use the version that its members run.")
		}
		defer given.Wipe()
		if err := c.sameKEK(given.KEKs[0].Key, passphrase); err != nil {
			return nil, err
		}
		if err := c.writeGiven(given); err != nil {
			return nil, err
		}
		return OpenKeyring(c, passphrase)
	}
}

// ownKEK says whether the key-encryption key lies with the other keys, as it
// does where the configuration names no place for it.
func (c Config) ownKEK() bool { return !c.Keys.KEK.Set() && c.Keys.Age == nil }

// sameKEK refuses keys that the key-encryption key of this node does not open.
// One that is kept elsewhere is its operator's to bring: nothing writes there.
func (c Config) sameKEK(want []byte, passphrase func(context.Context) ([]byte, error)) error {
	if c.ownKEK() {
		return nil
	}
	d := &Daemon{config: c, passphrase: passphrase}
	from, err := d.provider(c.Keys.KEK, c.Keys.Age, "keys.kek")
	if err != nil {
		return err
	}
	have, err := from.Load(context.Background())
	if err != nil {
		return err
	}
	for _, k := range have {
		defer clear(k)
		if subtle.ConstantTimeCompare(k, want) == 1 {
			return nil
		}
	}
	return problem.New(problem.Conflict, "given-kek-differs", "The key-encryption key of this node, in "+from.Place()+", is not that of the gateways of this fleet.").WithField("keys.kek").
		WithMend("Put theirs there. Then remove this node with `foundry node remove` on another, and join with a new invitation.")
}

// writeGiven writes keys and authority beside what is there, and then in its
// place.
func (c Config) writeGiven(given kit.Content) error {
	for _, dir := range []string{"keys", "ca"} {
		place := filepath.Join(c.DataDir, dir)
		fresh := place + ".given"
		if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(fresh, 0o700)); err != nil {
			return unusable(fresh, err)
		}
		for _, f := range given.Files {
			if filepath.Dir(f.Path) != dir || !filepath.IsLocal(f.Path) {
				continue
			}
			if err := durable.Replace(filepath.Join(fresh, filepath.Base(f.Path)), f.Body, f.Mode.Perm()&^fs.FileMode(0o022)); err != nil {
				return unusable(fresh, err)
			}
		}
		if dir == "keys" && c.ownKEK() {
			text := base64.StdEncoding.EncodeToString(given.KEKs[0].Key) + "\n"
			if err := durable.Replace(filepath.Join(fresh, "kek"), []byte(text), 0o600); err != nil {
				return unusable(fresh, err)
			}
		}
		if err := errors.Join(os.RemoveAll(place), os.Rename(fresh, place)); err != nil {
			return unusable(place, err)
		}
	}
	return nil
}

// Untouched says whether a data directory holds no keys yet: nothing is sealed
// with any, and it can take those of others.
func Untouched(dataDir string) bool {
	for _, name := range []string{"keys", "node.json", "journal", "postgres"} {
		if _, err := os.Lstat(filepath.Join(dataDir, name)); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// KeysNotGiven says in words what is to be done where a gateway was given no
// keys.
func KeysNotGiven(why string) string {
	return strings.TrimSpace("It keeps keys of its own: " + why + ".\nTo work on the database of the other gateways it needs theirs: see \"A second gateway\" in docs/guides/fleet.md.")
}
