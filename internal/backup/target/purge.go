package target

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Purged says what was done with what a bucket keeps although it was removed:
// with versions, removing leaves a mark, and object lock keeps what is below it.
type Purged struct {
	Gone      int   `json:"gone"`       // versions that were removed for good
	GoneBytes int64 `json:"gone_bytes"` // of them
	Kept      int   `json:"kept"`       // versions that are still locked
	KeptBytes int64 `json:"kept_bytes"`
	// Until is when the last of them is no longer locked; zero: the bucket does not say.
	Until time.Time `json:"until,omitzero"`
}

// versions is an answer to ListObjectVersions.
type versions struct {
	Versions   []version `xml:"Version"`
	Markers    []version `xml:"DeleteMarker"`
	Truncated  bool      `xml:"IsTruncated"`
	NextKey    string    `xml:"NextKeyMarker"`
	NextNumber string    `xml:"NextVersionIdMarker"`
}

type version struct {
	Key      string    `xml:"Key"`
	ID       string    `xml:"VersionId"`
	Latest   bool      `xml:"IsLatest"`
	Modified time.Time `xml:"LastModified"`
	Size     int64     `xml:"Size"`
}

func parseVersions(text []byte) (v versions, err error) {
	if err = xml.Unmarshal(text, &v); err == nil && v.Truncated && v.NextKey == "" {
		err = fmt.Errorf("a truncated listing without a continuation")
	}
	return v, err
}

// Purge removes for good, below the target's path in a bucket, what was
// removed or replaced before and is no longer locked. What is there now it
// never touches, and what is locked the bucket keeps, whoever asks. Other
// targets keep nothing that was removed: for them it does nothing. A dry run
// only counts, and counts as kept what a bucket says is locked.
func (t Target) Purge(ctx context.Context, now time.Time, dry bool) (p Purged, err error) {
	if t.Kind != S3Bucket {
		return p, nil
	}
	s, err := NewS3(t)
	if err != nil {
		return p, err
	}
	defer s.Close()
	days := 0 // of the bucket's own retention, for servers that do not say it of each version
	if l, err := parseObjectLock(s.ask(ctx, "object-lock")); err == nil {
		days = l.Days + 365*l.Years
	}
	var old, marks []version
	still := map[string]bool{} // keys of which something is there, or is still locked
	q := map[string]string{"versions": "", "prefix": s.key("")}
	for {
		l, err := s.versions(ctx, q)
		if err != nil {
			return p, err
		}
		for _, v := range l.Versions {
			if v.Latest || v.ID == "" || v.ID == "null" {
				still[v.Key] = true
			} else {
				old = append(old, v)
			}
		}
		marks = append(marks, l.Markers...)
		if !l.Truncated || q["key-marker"] == l.NextKey && q["version-id-marker"] == l.NextNumber {
			break
		}
		q["key-marker"], q["version-id-marker"] = l.NextKey, l.NextNumber
	}
	for _, v := range old {
		until, sure := s.lockedUntil(ctx, v, days, now)
		if !sure && (dry && !until.After(now) || !dry && s.removeVersion(ctx, v) == nil) {
			p.Gone, p.GoneBytes = p.Gone+1, p.GoneBytes+v.Size
			continue
		}
		if ctx.Err() != nil {
			return p, context.Cause(ctx)
		}
		still[v.Key] = true
		p.Kept, p.KeptBytes = p.Kept+1, p.KeptBytes+v.Size
		if until.After(p.Until) {
			p.Until = until
		}
	}
	for _, m := range marks { // one that nothing is left below hides nothing
		if !still[m.Key] && !dry {
			_ = s.removeVersion(ctx, m)
		}
	}
	return p, nil
}

func (s *S3) versions(ctx context.Context, q map[string]string) (l versions, err error) {
	a, err := s.Do(ctx, S3Request{Method: http.MethodGet, Query: q})
	if err != nil {
		return l, err
	}
	text, err := io.ReadAll(io.LimitReader(a.Body, maxS3Answer))
	_ = a.Body.Close()
	if err != nil {
		return l, s.unreachable(ctx, err)
	}
	if l, err = parseVersions(text); err != nil {
		return l, problem.New(problem.Upstream, "target-answer", "The target "+s.t.Name+" answers a listing that cannot be read.").Wrap(err)
	}
	return l, nil
}

// lockedUntil says until when a version is locked: surely, where the bucket
// says so of it, and otherwise by the bucket's own retention, which some servers
// do not say of each version: then the bucket decides when it is asked.
func (s *S3) lockedUntil(ctx context.Context, v version, days int, now time.Time) (until time.Time, sure bool) {
	if days > 0 {
		until = v.Modified.AddDate(0, 0, days)
	}
	a, err := s.Do(ctx, S3Request{Method: http.MethodHead, Key: v.Key, Query: map[string]string{"versionId": v.ID}})
	if err != nil {
		return until, false
	}
	_ = a.Body.Close()
	if said, err := time.Parse(time.RFC3339, a.Header.Get("X-Amz-Object-Lock-Retain-Until-Date")); err == nil {
		return said, said.After(now)
	}
	return until, strings.EqualFold(a.Header.Get("X-Amz-Object-Lock-Legal-Hold"), "ON")
}

func (s *S3) removeVersion(ctx context.Context, v version) error {
	return s.done(s.Do(ctx, S3Request{Method: http.MethodDelete, Key: v.Key, Query: map[string]string{"versionId": v.ID}}))
}
