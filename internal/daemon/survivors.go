package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/fleet/apart"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/principal"
)

// survivorParts are what the nodes that take over from this one need. Each
// part is a piece of the emergency kit's content; together they are a kit
// without its shares, so that one recovery reads both. What changes by itself
// (checkpoints, counts of starts) is left out: a part is deposited anew when it
// changes.
func (d *Daemon) survivorParts(ctx context.Context) ([]survivor.Part, error) {
	c, err := d.kitContent(ctx)
	if err != nil {
		return nil, err
	}
	return splitKit(c)
}

// splitKit makes the parts of a kit's content.
func splitKit(c kit.Content) (out []survivor.Part, err error) {
	common := kit.Content{Version: kit.ContentVersion, Node: c.Node, PostgreSQL: c.PostgreSQL, Packages: c.Packages}
	keys, authority, backups, settings := common, common, common, common
	keys.KEKs = c.KEKs
	for _, f := range c.Files {
		switch dir, name := filepath.Split(f.Path); {
		case dir == "keys/", dir == "audit/" && strings.HasSuffix(name, ".key"), dir == "evidence/" && strings.HasSuffix(name, ".sealed"):
			keys.Files = append(keys.Files, f)
		case dir == "ca/":
			authority.Files = append(authority.Files, f)
		case dir == "backup/" && strings.HasSuffix(name, ".sealed"):
			backups.Files = append(backups.Files, f)
		}
	}
	backups.Targets, backups.Passphrases = c.Targets, c.Passphrases
	settings.Settings, settings.Configuration, settings.Secrets = c.Settings, c.Configuration, c.Secrets
	for _, p := range []struct {
		name string
		of   kit.Content
		has  bool
	}{
		{survivor.Keys, keys, len(keys.KEKs) > 0 && len(keys.Files) > 0},
		{survivor.Authority, authority, len(authority.Files) > 0},
		{survivor.Backups, backups, len(backups.Targets) > 0},
		{survivor.Settings, settings, settings.Settings != ""},
	} {
		if !p.has {
			continue // readiness says that it is missing
		}
		body, err := json.Marshal(p.of)
		if err != nil {
			return nil, fmt.Errorf("writing the part %s: %w", p.name, err)
		}
		out = append(out, survivor.Part{Name: p.name, Body: body})
	}
	return out, nil
}

// noteEvery is how often survivors are told how far this node has come. What
// is noted of the database is of the last twenty minutes.
const noteEvery = 5 * time.Minute

// noteForSurvivors seals how far database and audit log have come, and how
// often this node was started, to those who hold its bundle.
func (d *Daemon) noteForSurvivors(ctx context.Context) error {
	c, err := d.kitContent(ctx)
	if err != nil {
		return err
	}
	defer c.Wipe()
	n, err := d.noted(ctx)
	if err != nil {
		return err
	}
	if c.Expected, err = json.Marshal(n); err != nil {
		return err
	}
	body, err := json.Marshal(noteOf(c))
	if err != nil {
		return err
	}
	return d.custody.Note(ctx, body)
}

// longestNote bounds the files of a note: those that say most come first, and
// of lines the newest.
const longestNote = 48 << 10

// noteOf is what of a kit's content changes by itself.
func noteOf(c kit.Content) kit.Content {
	out := kit.Content{Version: kit.ContentVersion, Node: c.Node, Expected: c.Expected, Audit: c.Audit}
	left := longestNote
	for _, want := range []func(string) bool{
		func(p string) bool { return p == "node.json" || p == "audit/newest.json" },
		func(p string) bool { return p == "audit/checkpoints.jsonl" },
		func(p string) bool { return strings.HasPrefix(p, "breakglass/") },
	} {
		for _, f := range c.Files {
			if !want(f.Path) {
				continue
			}
			if len(f.Body) > left && strings.HasSuffix(f.Path, ".jsonl") {
				_, f.Body, _ = bytes.Cut(f.Body[len(f.Body)-left:], []byte("\n"))
			}
			if len(f.Body) <= left {
				left -= len(f.Body)
				out.Files = append(out.Files, f)
			}
		}
	}
	return out
}

// joinKit puts the parts together again.
func joinKit(parts []survivor.Part) (c kit.Content, err error) {
	for _, p := range parts {
		var of kit.Content
		if err := json.Unmarshal(p.Body, &of); err != nil {
			return c, fmt.Errorf("reading the part %s: %w", p.Name, err)
		}
		if of.Version != kit.ContentVersion {
			return c, fmt.Errorf("the part %s is of version %d, and this program reads %d", p.Name, of.Version, kit.ContentVersion)
		}
		c.Version, c.Node, c.PostgreSQL, c.Packages = of.Version, of.Node, of.PostgreSQL, of.Packages
		c.KEKs = append(c.KEKs, of.KEKs...)
		c.Files = append(c.Files, of.Files...)
		c.Targets = append(c.Targets, of.Targets...)
		c.Configuration = append(c.Configuration, of.Configuration...)
		c.Secrets = append(c.Secrets, of.Secrets...)
		if of.Settings != "" {
			c.Settings = of.Settings
		}
		if of.Passphrases != nil {
			c.Passphrases = of.Passphrases
		}
	}
	return c, nil
}

// marks makes the marks of this fleet, for who may.
func (d *Daemon) marks(ctx context.Context, p principal.Principal) (m apart.Marks, err error) {
	if err := d.guard.Authorise(ctx, p, "fleet.marks", policy.Resource{}); err != nil {
		return m, err
	}
	things, err := d.apartThings(ctx)
	if err != nil {
		return m, err
	}
	defer func() {
		for _, t := range things {
			clear(t.Value)
		}
	}()
	name := d.config.NodeName()
	if member := d.Member(); member != nil {
		name = member.Name()
	}
	if m, err = apart.Make(d.fleetName(), name, things, d.clock()); err != nil {
		return m, err
	}
	return m, d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		return audit.Append(ctx, tx, p, uuid.Nil, "fleet.marks", name, map[string]any{"marks": len(m.Marks)})
	})
}

// fleetName is what this fleet is called beside another: by the organisation
// of its plan, or by its authority where there is no plan.
func (d *Daemon) fleetName() string {
	if d.planned != nil {
		if p := d.planned.Plan(); p != nil {
			return p.Organisation.Name
		}
	}
	sum := sha256.Sum256(d.authority.cert.Raw)
	return "fleet " + hex.EncodeToString(sum[:4])
}

// apartThings are what this fleet must not share with an isolated one.
func (d *Daemon) apartThings(ctx context.Context) ([]apart.Thing, error) {
	c, err := d.kitContent(ctx)
	if err != nil {
		return nil, err
	}
	mac, err := d.keyring.MACKey("fleet apart")
	if err != nil {
		return nil, err
	}
	things := append(kitThings(c), apart.Thing{Kind: apart.Keyring, Name: "keys", Value: mac})
	if d.Member() != nil {
		ca, err := os.ReadFile(filepath.Join(FleetDir(d.config.DataDir), "ca.pem"))
		if err != nil {
			return nil, unusable(FleetDir(d.config.DataDir), err)
		}
		things = append(things, apart.Thing{Kind: apart.Authority, Name: "fleet/ca.pem", Value: ca})
		if own, err := d.Member().Recipient(); err == nil {
			things = append(things, apart.Thing{Kind: apart.Node, Name: d.Member().Name(), Value: []byte(own)})
		}
	}
	return things, nil
}

// kitThings are those of them that stand in the kit's content.
func kitThings(c kit.Content) (out []apart.Thing) {
	add := func(kind, name string, value []byte) {
		out = append(out, apart.Thing{Kind: kind, Name: name, Value: value})
	}
	for _, k := range c.KEKs {
		add(apart.KEK, k.Provider+" "+k.Fingerprint, k.Key)
	}
	for _, f := range c.Files {
		if f.Path == "ca/ca.pem" {
			add(apart.Authority, f.Path, f.Body)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Passphrases)) {
		add(apart.Backup, name, c.Passphrases[name])
	}
	for _, s := range c.Secrets {
		add(apart.Secret, s.Field, []byte(strings.TrimSpace(string(s.Value))))
	}
	for _, t := range c.Targets {
		at := t.Config
		switch {
		case at.S3 != nil:
			add(apart.Target, at.Name, fmt.Appendf(nil, "s3 %s %s", at.S3.Endpoint, at.S3.Bucket))
		case at.SFTP != nil:
			add(apart.Target, at.Name, fmt.Appendf(nil, "sftp %s %s", at.SFTP.Host, at.Path))
		}
		if at.Supplier != "" && at.Account != "" {
			add(apart.Target, at.Name+" account", fmt.Appendf(nil, "account %s %s", at.Supplier, at.Account))
		}
	}
	return out
}
