package target

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// What this node's credentials can remove at a target.
const (
	DeletesNothing = "nothing"    // append-only, or locked
	DeletesMarks   = "marks only" // what is removed is marked; the bucket keeps it
	DeletesForGood = "for good"   // whoever holds the credentials can remove every backup
)

// Probe is what a look at a target found. Looking writes one small file there,
// and removes it where the target lets it.
type Probe struct {
	Versions      string        `json:"versions,omitempty"` // buckets: enabled, suspended, off or unknown
	ObjectLock    bool          `json:"object_lock,omitempty"`
	Retention     string        `json:"retention,omitempty"` // compliance or governance, where new objects are locked by default
	RetentionDays int           `json:"retention_days,omitempty"`
	Deletes       string        `json:"deletes"`
	Free          int64         `json:"free,omitempty"` // 0 with Total 0: not known
	Total         int64         `json:"total,omitempty"`
	Took          time.Duration `json:"took"`
	Findings      []Finding     `json:"findings,omitempty"` // what should be better
}

// probeFile is never the name of anything else.
func probeFile() string { return "foundry-probe-" + strings.ToLower(rand.Text()[:12]) }

// Probe looks whether a target can be reached and written, what it keeps from
// being deleted, and how much is free. An error says why it cannot be used.
func (t Target) Probe(ctx context.Context) (p Probe, err error) {
	began := time.Now()
	store, err := t.Store(ctx)
	if err != nil {
		return p, err
	}
	defer store.Close()
	if s, ok := store.(*S3); ok {
		err = s.probe(ctx, &p)
	} else {
		err = probeFiles(ctx, store, &p)
	}
	if err != nil {
		return p, err
	}
	if sftp, ok := store.(*SFTP); ok {
		p.Free, p.Total, err = sftp.Space()
	} else if t.Kind == Directory {
		p.Free, p.Total, err = t.Space(ctx)
	}
	var known *problem.Error
	if errors.As(err, &known) && known.Code == "space-unknown" {
		err = nil
	}
	p.Took = time.Since(began)
	p.Findings = t.judge(p)
	return p, err
}

// probeFiles writes, reads and removes a file.
func probeFiles(ctx context.Context, s Store, p *Probe) error {
	name := probeFile()
	if err := s.Put(ctx, name, []byte(name)); err != nil {
		return err
	}
	r, err := s.Open(ctx, name)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(io.LimitReader(r, 1<<10))
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if string(got) != name {
		return problem.New(problem.Upstream, "target-lies", "What was just written to the target reads otherwise.").WithMend("Do not use it: it loses or changes what it is given.")
	}
	p.Deletes = DeletesForGood
	if err := s.Delete(ctx, name); err != nil {
		p.Deletes = DeletesNothing
	}
	return nil
}

type versioning struct {
	Status string `xml:"Status"`
}

type objectLock struct {
	Enabled string `xml:"ObjectLockEnabled"`
	Mode    string `xml:"Rule>DefaultRetention>Mode"`
	Days    int    `xml:"Rule>DefaultRetention>Days"`
	Years   int    `xml:"Rule>DefaultRetention>Years"`
}

func parseVersioning(text []byte) (v versioning, err error) { return v, xml.Unmarshal(text, &v) }

func parseObjectLock(text []byte) (l objectLock, err error) {
	if err = xml.Unmarshal(text, &l); err == nil && (l.Days < 0 || l.Years < 0 || l.Days > 100*365 || l.Years > 100) {
		err = errors.New("a retention that cannot be")
	}
	return l, err
}

// ask reads a setting of the bucket. Not every account may, and not every
// server has it: then it is not known.
func (s *S3) ask(ctx context.Context, what string) []byte {
	a, err := s.Do(ctx, S3Request{Method: http.MethodGet, Query: map[string]string{what: ""}})
	if err != nil {
		return nil
	}
	defer a.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(a.Body, 64<<10))
	return text
}

func (s *S3) probe(ctx context.Context, p *Probe) error {
	if _, err := s.List(ctx, "foundry-probe-"); err != nil {
		return err
	}
	p.Versions = "unknown"
	if text := s.ask(ctx, "versioning"); text != nil {
		if v, err := parseVersioning(text); err == nil {
			p.Versions = map[string]string{"Enabled": "enabled", "Suspended": "suspended"}[v.Status]
			if p.Versions == "" {
				p.Versions = "off"
			}
		}
	}
	if l, err := parseObjectLock(s.ask(ctx, "object-lock")); err == nil {
		p.ObjectLock, p.Retention, p.RetentionDays = l.Enabled == "Enabled", strings.ToLower(l.Mode), l.Days+365*l.Years
	}
	name := probeFile()
	a, err := s.Do(ctx, S3Request{Method: http.MethodPut, Key: s.key(name), Body: []byte(name)})
	if err != nil {
		return err
	}
	version := a.Header.Get("X-Amz-Version-Id")
	_ = a.Body.Close()
	p.Deletes = s.removes(ctx, name, version)
	return nil
}

// removes tries how much of an object the credentials can remove.
func (s *S3) removes(ctx context.Context, name, version string) string {
	remove := func(version string) (marker string, ok bool) {
		r := S3Request{Method: http.MethodDelete, Key: s.key(name)}
		if version != "" {
			r.Query = map[string]string{"versionId": version}
		}
		a, err := s.Do(ctx, r)
		if err != nil {
			return "", false
		}
		_ = a.Body.Close()
		return a.Header.Get("X-Amz-Version-Id"), true
	}
	marker, ok := remove("")
	switch {
	case !ok:
		return DeletesNothing
	case version == "" || version == "null":
		return DeletesForGood
	}
	if _, ok := remove(version); !ok {
		return DeletesMarks
	}
	if marker != "" {
		_, _ = remove(marker)
	}
	return DeletesForGood
}

// judge says what a target should do better. What the configuration promises
// and the target does not keep is fatal.
func (t Target) judge(p Probe) (f []Finding) {
	add := func(fatal bool, rule, field, detail, mend string) {
		f = append(f, Finding{Rule: rule, Field: field, Detail: detail, Mend: mend, Fatal: fatal})
	}
	const lock = "Make the bucket with object lock and a default retention of backup.keep_days or more, and set lock.mode: object-lock."
	switch mode := t.lockMode(); {
	case mode == ObjectLock && (!p.ObjectLock || p.Deletes == DeletesForGood):
		add(true, "lock-missing", "lock.mode", "The target is said to lock what it holds, but the credentials can delete it for good.", lock)
	case mode == ObjectLock && p.Retention != "" && p.RetentionDays < t.Lock.Days:
		add(true, "lock-short", "lock.days", fmt.Sprintf("The bucket locks for %d days, the configuration says %d.", p.RetentionDays, t.Lock.Days), "Raise the bucket's default retention, or correct lock.days.")
	case mode == AppendOnly && p.Deletes != DeletesNothing:
		add(true, "append-only-missing", "lock.mode", "The target is said to be append-only, but the credentials can delete there.", "Take the permission to delete from this account.")
	case p.Deletes == DeletesForGood && t.Kind == S3Bucket:
		add(false, "can-delete", "lock", "Whoever takes over this node can delete every backup in this bucket for good.", lock)
	case p.Deletes == DeletesForGood:
		add(false, "can-delete", "lock", "Whoever takes over this node can delete every backup at this target.", "Have one target more that this node cannot delete at: a bucket with object lock.")
	}
	if t.Kind == S3Bucket && p.Retention == "governance" {
		add(false, "lock-weak", "lock.mode", "The bucket's default retention is governance: an administrator of the account can lift it.", "Use compliance, where nobody can.")
	}
	return f
}

func (t Target) lockMode() string {
	if t.Lock == nil {
		return ""
	}
	return t.Lock.Mode
}
