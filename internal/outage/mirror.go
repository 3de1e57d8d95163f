package outage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/fleet/member"
)

// mirror is what people sign in with, as it stands in the fleet's store: one
// value, so that no part of it is older than another.
type mirror struct {
	Version int64             `json:"version"` // grows with each change; no node goes back behind one that it has seen
	Made    time.Time         `json:"made"`
	Sum     []byte            `json:"sum"` // of People
	People  []access.Material `json:"people"`
}

// bar keeps somebody out of the mirror until that has followed the database.
type bar struct {
	At   time.Time `json:"at"`
	Node string    `json:"node"`
}

// agree compares the mirror with the database and writes it where they differ.
// The mirror is read first: a node that read the database earlier than another
// one wrote does not undo what that wrote.
func (d *Door) agree(ctx context.Context) error {
	began := d.Clock()
	bars, _, err := d.Store.List(ctx, pathBarred)
	if err != nil {
		return err
	}
	var now mirror
	revision, err := d.get(ctx, pathMirror, &now)
	if err != nil && !errors.Is(err, member.ErrAbsent) {
		// What does not open is written anew: the database is what counts.
		e, absent := d.Store.Get(ctx, pathMirror)
		if absent != nil {
			return err
		}
		d.Log.Error("the fleet's copy of who may sign in did not open, and is written anew", "error", err)
		now, revision = mirror{}, e.Revision
	}
	people, err := d.Material(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(people)
	if err != nil {
		return err
	}
	d.mu.Lock()
	floor := d.memory.Version
	d.mu.Unlock()
	if sum := sumOf(body); now.Version == 0 || !bytes.Equal(sum, now.Sum) || now.Version < floor {
		now = mirror{Version: max(now.Version, floor) + 1, Made: began.UTC(), Sum: sum, People: people}
		if err := d.put(ctx, pathMirror, now, member.IfRevision(pathMirror, revision)); err != nil {
			if errors.Is(err, member.ErrChanged) {
				d.Kick()
				return nil // another node was faster; the next look tells
			}
			return err
		}
		d.Log.Debug("the fleet's copy of who may sign in follows the database", "version", now.Version, "people", len(people))
	}
	d.remember(now, began)
	return d.unbar(ctx, bars, began)
}

// unbar takes away what the mirror has caught up with: bars older than any
// transaction that could still be under way when the database was read.
func (d *Door) unbar(ctx context.Context, bars []member.Entry, read time.Time) error {
	for _, e := range bars {
		var b bar
		if err := d.unboxed(e, &b); err == nil && read.Sub(b.At) < clearAfter {
			continue
		}
		if err := d.Store.Delete(ctx, e.Path, member.IfRevision(e.Path, e.Revision)); err != nil && !errors.Is(err, member.ErrChanged) {
			return err
		}
	}
	return nil
}

// Withdrawn bars somebody from the mirror until that has followed the database,
// which may be about to commit why. Where the fleet does not take it in time,
// the bar is tried again, and this node bars them meanwhile.
func (d *Door) Withdrawn(ctx context.Context, person uuid.UUID) {
	if d == nil {
		return
	}
	d.mu.Lock()
	mirrored := d.known == nil || d.known[person]
	if mirrored {
		d.waiting[person] = true
	}
	d.mu.Unlock()
	if !mirrored {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := d.barred(ctx, person); err != nil {
		d.Log.Warn("somebody's sign-in without the database was not withdrawn in the fleet yet", "person", person, "error", err)
	}
	d.Kick()
}

func (d *Door) barred(ctx context.Context, person uuid.UUID) error {
	err := d.put(ctx, pathBarred+person.String(), bar{d.Clock().UTC(), d.Node})
	if err == nil {
		d.mu.Lock()
		delete(d.waiting, person)
		d.mu.Unlock()
	}
	return err
}

// barWaiting tries again what the fleet did not take.
func (d *Door) barWaiting(ctx context.Context) error {
	d.mu.Lock()
	var people []uuid.UUID
	for p := range d.waiting {
		people = append(people, p)
	}
	d.mu.Unlock()
	for _, p := range people {
		if err := d.barred(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// isBarred says whether somebody may not sign in by the mirror. What cannot be
// read bars.
func (d *Door) isBarred(ctx context.Context, person uuid.UUID) (bool, error) {
	d.mu.Lock()
	waiting := d.waiting[person]
	d.mu.Unlock()
	if waiting {
		return true, nil
	}
	_, err := d.Store.Get(ctx, pathBarred+person.String())
	if errors.Is(err, member.ErrAbsent) {
		return false, nil
	}
	return true, err
}

// mirrored reads the mirror, and refuses one that is older than, or not the
// same as, what this node has seen.
func (d *Door) mirrored(ctx context.Context) (m mirror, err error) {
	if _, err = d.get(ctx, pathMirror, &m); err != nil {
		if errors.Is(err, member.ErrAbsent) {
			err = errNoMirror
		}
		return mirror{}, err
	}
	d.mu.Lock()
	seen := d.memory
	d.mu.Unlock()
	if m.Version < seen.Version || m.Version == seen.Version && !bytes.Equal(m.Sum, seen.Sum) {
		d.Log.Error("the fleet's copy of who may sign in is older than one that was seen here: the fleet's store was set back", "version", m.Version, "seen", seen.Version)
		return mirror{}, errOlder
	}
	return m, nil
}

// find finds who has an account; nil: nobody, or somebody who is barred.
func (d *Door) find(ctx context.Context, m mirror, is func(*access.Material) bool) (*access.Material, error) {
	for i := range m.People {
		if p := &m.People[i]; is(p) {
			barred, err := d.isBarred(ctx, p.Person)
			if err != nil || barred {
				return nil, err
			}
			return p, nil
		}
	}
	return nil, nil
}

func (d *Door) person(ctx context.Context, id uuid.UUID) (*access.Material, error) {
	m, err := d.mirrored(ctx)
	if err != nil {
		return nil, err
	}
	return d.find(ctx, m, func(p *access.Material) bool { return p.Person == id })
}

// Named finds the people behind accounts as a document names them, by e-mail
// address or by id, as [access.People.Named] does with the database.
func (d *Door) Named(ctx context.Context, accounts []string) (map[string]string, error) {
	m, err := d.mirrored(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, account := range accounts {
		id, _ := uuid.Parse(account)
		mac := d.Account(account)
		p, err := d.find(ctx, m, func(p *access.Material) bool { return p.Person == id || bytes.Equal(p.Account, mac) })
		if err != nil {
			return nil, err
		}
		if p != nil {
			out[account] = "person:" + p.Person.String()
		}
	}
	return out, nil
}

// remember keeps that the mirror was what the database said.
func (d *Door) remember(m mirror, at time.Time) {
	d.mu.Lock()
	changed := d.memory.Version != m.Version || !d.memory.Lost.IsZero()
	d.memory = memory{Version: m.Version, Sum: m.Sum, Agreed: at.UTC()}
	d.known = map[uuid.UUID]bool{}
	for i := range m.People {
		d.known[m.People[i].Person] = true
	}
	due := changed || at.Sub(d.noted) >= noteEvery
	d.mu.Unlock()
	if due {
		d.note()
	}
}

const fileAssociated = "foundry outage memory"

// note writes what this node remembers.
func (d *Door) note() {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, err := json.Marshal(d.memory)
	if err == nil {
		body, err = d.Seal(body, []byte(fileAssociated))
	}
	if err == nil && d.File != "" {
		err = durable.Replace(d.File, body, 0o600)
	}
	if err != nil {
		d.Log.Warn("which copy of who may sign in was last seen here was not written", "error", err)
		return
	}
	d.noted = d.Clock()
}

// recall reads what the process before remembered. Without it nobody signs in
// here until the database has been seen once.
func (d *Door) recall() {
	if d.File == "" {
		return
	}
	sealed, err := os.ReadFile(d.File)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		sealed, err = d.Open(sealed, []byte(fileAssociated))
	}
	if err == nil {
		err = json.Unmarshal(sealed, &d.memory)
	}
	if err != nil {
		d.memory = memory{}
		d.Log.Warn("which copy of who may sign in was last seen here could not be read", "error", err)
	}
}

// Kick has the mirror compared with the database soon.
func (d *Door) Kick() {
	if d == nil {
		return
	}
	select {
	case d.kicked <- struct{}{}:
	default:
	}
}

func last(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
