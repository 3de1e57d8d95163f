package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/problem"
)

// exportRoutes let somebody take the audit log along.
func (c *Console) exportRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toExport, Action: "audit.export", do: c.exportPage},
		{Pattern: "GET " + toExport + ".tsv", Action: "audit.export", do: c.exportAudit},
	}
}

const toExport = toAudit + "/export"

// exportStall is how long a browser may take nothing of a download.
const exportStall = time.Minute

// exports are the downloads of this node's sessions: how far each is, and what
// came of the last ones. In memory only: the audit log keeps that they were.
type exports struct {
	mu   sync.Mutex
	runs []*exportRun // oldest first
}

// exportRun is one download.
type exportRun struct {
	session, scope, file string
	began, ended         time.Time
	done, total          int64 // leaves
	bytes                int64
	sum                  string // SHA-256 of the whole file
	broke                bool
}

const maxExports = 200

func (x *exports) add(run *exportRun) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.runs = append(x.runs, run); len(x.runs) > maxExports {
		x.runs = slices.Clone(x.runs[1:])
	}
}

func (x *exports) change(fn func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	fn()
}

// of lists the downloads of a session, newest first.
func (x *exports) of(session string) (out []exportRun) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range slices.Backward(x.runs) {
		if r.session == session && len(out) < 5 {
			out = append(out, *r)
		}
	}
	return out
}

// pulse changes as downloads go on.
func (x *exports) pulse() (sum int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.runs {
		sum += r.done + r.bytes + r.ended.Unix()
	}
	return sum
}

type exportData struct {
	v       *visit
	scope   string
	choices []string
	size    int64 // leaves of the tree
	runs    []exportRun
	keys    []audit.PublicKey
	form    form
}

func (c *Console) exportPage(v *visit) error { return c.showExport(v, form{}, 0) }

func (c *Console) showExport(v *visit, f form, status int) error {
	if c.Audit == nil {
		return errNoLog
	}
	q := v.r.URL.Query()
	d := exportData{v: v, scope: q.Get("organisation"), size: c.Audit.Status().Size, runs: c.exports.of(v.session.id), form: f}
	if f.values == nil {
		d.form.values = map[string]string{"from": q.Get("from"), "to": q.Get("to")}
	}
	if v.who().Platform() {
		d.choices = append([]string{platformName}, c.choices(v).Organisations...)
	}
	ctx, cancel := v.ctx()
	defer cancel()
	var err error
	if d.keys, err = c.Audit.Keys(ctx); err != nil && !away(err) {
		return err
	}
	return v.show(page{Title: "Take the audit log along", Path: toAudit, Status: status, Live: true, Crumbs: []crumb{{"Audit log", toAudit}}}, exportBody(d))
}

// exportOptions reads what is wanted. A person takes one organisation's
// entries, or the platform's own; whoever speaks for the node, everything.
func (c *Console) exportOptions(ctx context.Context, v *visit) (o audit.ExportOptions, scope string, f form, err error) {
	q := v.r.URL.Query()
	f = form{values: map[string]string{"from": q.Get("from"), "to": q.Get("to")}}
	o.By, scope = v.who().String(), "everything"
	if org := v.subject().Organisation; v.own() || q.Get("organisation") != "" {
		o.Organisation, scope = &org, c.names().organisation(org)
	}
	for _, bound := range []struct {
		field string
		add   int
		leaf  *int64
	}{{"from", 0, &o.First}, {"to", 1, &o.End}} {
		text := q.Get(bound.field)
		if text == "" {
			continue
		}
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return o, scope, f, problem.New(problem.Invalid, "date", "That is not a date.").WithField(bound.field).WithMend("Write it as YYYY-MM-DD.")
		}
		if *bound.leaf, err = c.Audit.LeafAt(ctx, day.AddDate(0, 0, bound.add)); err != nil {
			return o, scope, f, err
		}
	}
	if q.Get("to") != "" && (o.End == 0 || o.End < o.First) { // none of them would be all of them
		err = problem.New(problem.Invalid, "audit-range", "Nothing was recorded in those days.").WithField("to").WithMend("Choose a later last day.")
	}
	return o, scope, f, err
}

// exportAudit writes the archive into the browser's download as it is read. A
// download that breaks off is broken for the browser too: without its last
// line an archive does not verify.
func (c *Console) exportAudit(v *visit) error {
	if c.Audit == nil {
		return errNoLog
	}
	ctx, cancel := v.ctx()
	defer cancel()
	o, scope, f, err := c.exportOptions(ctx, v)
	if err != nil {
		if err := f.mended(err, "from"); err != nil {
			return err
		}
		return c.showExport(v, f, f.problem.Kind.Status())
	}
	org := uuid.Nil
	if o.Organisation != nil {
		org = *o.Organisation
	}
	if err := c.Audit.Record(ctx, v.who(), org, audit.ActExport, "", map[string]any{"from_leaf": o.First, "to_leaf": o.End}); err != nil {
		return err
	}
	run := &exportRun{session: v.session.id, scope: scope, began: v.now, file: fmt.Sprintf("foundry-audit-%s-%s.tsv", scope, v.now.Format("20060102-150405"))}
	c.exports.add(run)
	o.Progress = func(done, total int64) { c.exports.change(func() { run.done, run.total = done, total }) }
	h := v.w.Header()
	h.Set("Content-Type", "text/tab-separated-values; charset=utf-8")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", run.file))
	to := &exportWriter{v: v, run: run, sum: sha256.New()}
	err = c.Audit.Export(v.r.Context(), to, o)
	c.exports.change(func() {
		run.ended, run.broke, run.sum = c.Clock().UTC(), err != nil, hex.EncodeToString(to.sum.Sum(nil))
	})
	switch {
	case err == nil:
		return nil
	case run.bytes == 0:
		h.Del("Content-Disposition")
		return err
	case v.r.Context().Err() == nil:
		c.Log.Error("an export of the audit log broke off", "error", err)
	}
	panic(http.ErrAbortHandler) // the browser must not take what it has for the whole
}

// exportWriter writes to the browser, and keeps the count and the sum.
type exportWriter struct {
	v   *visit
	run *exportRun
	sum hash.Hash
}

func (w *exportWriter) Write(p []byte) (int, error) {
	_ = http.NewResponseController(w.v.w).SetWriteDeadline(time.Now().Add(exportStall)) // not every writer has one
	n, err := w.v.w.Write(p)
	w.sum.Write(p[:n])
	w.v.c.exports.change(func() { w.run.bytes += int64(n) })
	return n, err
}

func (r exportRun) state() state {
	switch {
	case r.ended.IsZero():
		return state{info, "Being written"}
	case r.broke:
		return state{bad, "Broke off"}
	}
	return state{ok, "Complete"}
}

// exportLink is the page where this part of the log can be taken along.
func (q auditQuery) exportLink() templ.SafeURL {
	return with(toExport, "organisation", q.Organisation, "from", q.From, "to", q.To)
}
