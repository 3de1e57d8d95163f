package console

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/mod/sumdb/tlog"
)

func (c *Console) auditRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toAudit, Action: "audit.list", do: c.audit},
		{Pattern: "GET " + toAudit + "/log", Action: "audit.verify", do: c.auditState},
		{Pattern: "POST " + toAudit + "/log/verify", Action: "audit.verify", do: c.verifyAudit},
		{Pattern: "GET " + toAudit + "/{entry}", Action: "audit.read", do: c.auditEntry},
		{Pattern: "GET " + toAudit + "/{entry}/proof", Action: "audit.prove", do: c.auditProof},
		{Pattern: "GET " + toAudit + "/{entry}/proof.json", Action: "audit.prove", do: c.auditBundle},
	}
}

// auditQuery is the filter of the audit log.
type auditQuery struct{ Organisation, Actor, Act, Target, Outcome, From, To, Before string }

func readAuditQuery(v *visit) auditQuery {
	q := v.r.URL.Query()
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return auditQuery{get("organisation"), get("actor"), get("act"), get("target"), get("outcome"), get("from"), get("to"), get("before")}
}

func (q auditQuery) active() bool {
	q.Before = ""
	return q != auditQuery{}
}

func (q auditQuery) page(before string) templ.SafeURL {
	return with(toAudit, "organisation", q.Organisation, "actor", q.Actor, "act", q.Act, "target", q.Target, "outcome", q.Outcome, "from", q.From, "to", q.To, "before", before)
}

// filter is what the query selects, of what the visitor may see: a person sees
// the log of one organisation at a time, or the platform's own.
func (q auditQuery) filter(v *visit) (audit.Filter, error) {
	f := audit.Filter{Actor: q.Actor, Act: q.Act, Target: q.Target, Outcome: q.Outcome, Limit: auditPage + 1}
	if q.Outcome != "" && q.Outcome != audit.Done && q.Outcome != audit.Denied {
		return f, problem.New(problem.Invalid, "outcome", "An entry is done or denied.").WithMend("Choose one from the list.")
	}
	if org := v.subject().Organisation; v.own() || q.Organisation != "" {
		f.Organisation = &org
	}
	for _, d := range []struct {
		text string
		to   *time.Time
		add  int
	}{{q.From, &f.From, 0}, {q.To, &f.To, 1}} {
		if d.text == "" {
			continue
		}
		at, err := time.Parse(time.DateOnly, d.text)
		if err != nil {
			return f, problem.New(problem.Invalid, "date", "That is not a date.").WithMend("Write it as YYYY-MM-DD.")
		}
		*d.to = at.AddDate(0, 0, d.add)
	}
	if q.Before != "" {
		id, err := uuid.Parse(q.Before)
		if err != nil {
			return f, problem.New(problem.Invalid, "cursor", "That is not a page of this list.")
		}
		f.Before = id
	}
	return f, nil
}

type auditData struct {
	v       *visit
	names   names
	choices []string
	query   auditQuery
	rows    []audit.Row
	next    string
}

const auditPage = 50

// audit lists entries. That somebody reads the log is an entry of its own,
// made before anything is shown.
func (c *Console) audit(v *visit) error {
	q := readAuditQuery(v)
	f, err := q.filter(v)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.reading(ctx, v, f); err != nil {
		return err
	}
	d := auditData{v: v, names: c.names(), query: q}
	if d.rows, err = audit.Find(ctx, c.DB, f); err != nil {
		return err
	}
	if len(d.rows) > auditPage {
		d.rows = d.rows[:auditPage]
		d.next = string(q.page(d.rows[auditPage-1].ID.String()))
	}
	if v.who().Platform() {
		d.choices = append([]string{platformName}, c.choices(v).Organisations...)
	}
	return v.show(page{Title: "Audit log", Path: toAudit}, auditBody(d))
}

func (c *Console) reading(ctx context.Context, v *visit, f audit.Filter) error {
	if c.Audit == nil {
		return nil
	}
	f.Limit = 0
	return c.Audit.Reading(ctx, v.who(), v.who().Organisation, f)
}

// entryNamed finds the entry that the path names, for somebody who may read it.
func (c *Console) entryNamed(ctx context.Context, v *visit, action policy.Action) (audit.Row, error) {
	unknown := problem.New(problem.NotFound, "entry-unknown", "There is no such entry.").WithMend("Choose one from the list.")
	id, err := uuid.Parse(v.r.PathValue("entry"))
	if err != nil {
		return audit.Row{}, unknown
	}
	f := audit.Filter{Before: after(id), Limit: 1}
	if org := v.subject().Organisation; v.own() {
		f.Organisation = &org
	}
	rows, err := audit.Find(ctx, c.DB, f)
	if err != nil {
		return audit.Row{}, err
	}
	if len(rows) == 0 || rows[0].ID != id {
		return audit.Row{}, unknown
	}
	if err := c.Guard.Authorise(ctx, v.who(), action, policy.Resource{ID: id.String(), Organisation: rows[0].Organisation}); err != nil {
		return audit.Row{}, err
	}
	f.Target, f.Before = id.String(), uuid.Nil
	return rows[0], c.reading(ctx, v, f)
}

// after is the id that follows another one.
func after(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

type entryData struct {
	v     *visit
	names names
	row   audit.Row
}

func (c *Console) auditEntry(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	row, err := c.entryNamed(ctx, v, "audit.read")
	if err != nil {
		return err
	}
	return v.show(page{Title: row.Act, Path: toAudit, Crumbs: []crumb{{"Audit log", toAudit}}}, entryBody(entryData{v, c.names(), row}))
}

// entryLink is an entry's page, or one below it.
func entryLink(v *visit, id uuid.UUID, rest string) templ.SafeURL {
	return with(toAudit+"/"+id.String()+rest, "organisation", v.r.URL.Query().Get("organisation"))
}

// proofData is the drawing of a proof.
type proofData struct {
	v          *visit
	row        audit.Row
	names      names
	steps      []proofStep
	leaf       string
	leafN      int64
	root       string
	checkpoint audit.Checkpoint
	signers    []string
	keys       []audit.PublicKey
	problem    string // why the proof does not hold
	lines      []treeLine
	nodes      []treeNode
	height     int
}

// proofStep joins what was computed so far with a neighbour.
type proofStep struct {
	left      bool // the neighbour stands on the left
	neighbour string
	result    string
}

var errNoLog = problem.New(problem.Unavailable, "log-away", "The audit log's tree is not kept on this node.").WithMend("Ask a gateway node.")

func (c *Console) bundle(ctx context.Context, v *visit) (row audit.Row, b audit.Bundle, err error) {
	if c.Audit == nil {
		return row, b, errNoLog
	}
	if row, err = c.entryNamed(ctx, v, "audit.prove"); err != nil {
		return row, b, err
	}
	b, err = c.Audit.Prove(ctx, row.ID)
	return row, b, err
}

// auditProof draws how an entry follows from the signed checkpoint. What is
// drawn was computed here from the proof, as whoever downloads it can.
func (c *Console) auditProof(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	row, b, err := c.bundle(ctx, v)
	if err != nil {
		return err
	}
	d := proofData{v: v, row: row, names: c.names()}
	if d.keys, err = c.Audit.Keys(ctx); err != nil {
		return err
	}
	var vkeys []string
	for _, k := range d.keys {
		vkeys = append(vkeys, k.VKey)
	}
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if _, d.checkpoint, err = audit.CheckBundle(text, vkeys); err != nil {
		d.problem = problem.From(err).Detail
	} else if len(b.Proofs) > 0 {
		d.draw(b.Proofs[0])
	}
	d.signers = signersOf(b.Checkpoint)
	return v.show(page{Title: "Proof", Path: toAudit, Crumbs: []crumb{{"Audit log", toAudit}, {row.Act, entryLink(v, row.ID, "")}}}, proofBody(d))
}

// signersOf are the names that stand under a checkpoint.
func signersOf(checkpoint string) (out []string) {
	for _, line := range strings.Split(checkpoint, "\n") {
		if rest, found := strings.CutPrefix(line, "\u2014 "); found {
			name, _, _ := strings.Cut(rest, " ")
			out = append(out, name)
		}
	}
	return out
}

// draw computes the way from the leaf to the root (RFC 9162, section 2.1.3.2).
func (d *proofData) draw(p audit.Proof) {
	var root tlog.Hash
	d.leafN, d.leaf = p.Leaf, short(p.LeafHash)
	d.steps, root = climb(p.Leaf, d.checkpoint.Size, p.LeafHash, p.Path)
	d.root = short(root)
	if root != d.checkpoint.Root {
		d.problem = "The way from the entry does not end at the root that was signed."
	}
	d.plot()
}

// climb follows a path from the leaf at a place to the root of a tree of that
// size.
func climb(at, size int64, hash tlog.Hash, path []tlog.Hash) (steps []proofStep, root tlog.Hash) {
	last := size - 1
	for _, neighbour := range path {
		s := proofStep{neighbour: short(neighbour)}
		if at&1 == 1 || at == last {
			s.left = true
			hash = tlog.NodeHash(neighbour, hash)
			for at&1 == 0 && at != 0 {
				at, last = at>>1, last>>1
			}
		} else {
			hash = tlog.NodeHash(hash, neighbour)
		}
		at, last = at>>1, last>>1
		s.result = short(hash)
		steps = append(steps, s)
	}
	return steps, hash
}

func short(h tlog.Hash) string { return hex.EncodeToString(h[:4]) }

// treeNode and treeLine are what the picture of a tree is made of.
type treeNode struct {
	x, y int
	kind string
}

type treeLine struct{ x1, y1, x2, y2 int }

// plot places the way in the picture: the root at the top, at each level the
// way on one side and its neighbour on the other.
func (d *proofData) plot() {
	const width, top, gap = 640, 16, 26
	n := len(d.steps)
	d.height = top*2 + n*gap
	x, spread := width/2, width/4
	y := top
	d.nodes = append(d.nodes, treeNode{x, y, "root"})
	for i := n - 1; i >= 0; i-- {
		way, neighbour := x-spread, x+spread
		if d.steps[i].left {
			way, neighbour = neighbour, way
		}
		next := y + gap
		d.lines = append(d.lines, treeLine{x, y, neighbour, next}, treeLine{x, y, way, next})
		d.nodes = append(d.nodes, treeNode{neighbour, next, "neighbour"}, treeNode{way, next, "way"})
		x, y, spread = way, next, max(spread/2, 12)
	}
	if n > 0 {
		d.nodes[len(d.nodes)-1].kind = "leaf"
	}
}

// auditBundle downloads the proof, for checking on another machine.
func (c *Console) auditBundle(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	row, b, err := c.bundle(ctx, v)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", proofFile(row.ID)))
	_, _ = v.w.Write(append(text, '\n'))
	return nil
}

func proofFile(id uuid.UUID) string { return "foundry-proof-" + id.String() + ".json" }

type logData struct {
	v       *visit
	status  audit.Status
	keys    []audit.PublicKey
	away    bool // the keys could not be read
	current audit.Checkpoint
	report  *audit.Report
}

func (c *Console) auditState(v *visit) error { return c.showLog(v, nil, 0) }

func (c *Console) showLog(v *visit, report *audit.Report, status int) error {
	if c.Audit == nil {
		return errNoLog
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := logData{v: v, status: c.Audit.Status(), report: report}
	var err error
	if d.keys, err = c.Audit.Keys(ctx); err != nil && !away(err) {
		return err
	}
	d.away = err != nil
	if at, err := c.Audit.Checkpoint(); err == nil {
		d.current = at
	}
	return v.show(page{Title: "State of the log", Path: toAudit, Status: status, Crumbs: []crumb{{"Audit log", toAudit}}}, logBody(d))
}

// verifyTime bounds a verification in the console; longer ones are for the
// command line.
const verifyTime = 2 * time.Minute

func (c *Console) verifyAudit(v *visit) error {
	if c.Audit == nil {
		return errNoLog
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), verifyTime)
	defer cancel()
	// It reads everybody's entries, and what it finds names them.
	if err := c.Guard.Authorise(ctx, v.who(), "audit.verify", policy.Resource{}); err != nil {
		return err
	}
	if err := c.Audit.Record(ctx, v.who(), uuid.Nil, "audit.verify", "", nil); err != nil {
		return err
	}
	_ = http.NewResponseController(v.w).SetWriteDeadline(time.Now().Add(verifyTime + pageTimeout)) // not every writer has one
	report, err := c.Audit.Verify(ctx, audit.VerifyOptions{})
	if err != nil {
		return err
	}
	return c.showLog(v, &report, 0)
}

// logState says how the log is, the worst first.
func logState(s audit.Status) state {
	switch {
	case s.Lost > 0, !s.Verified.IsZero() && !s.Sound:
		return state{bad, "Not sound"}
	case s.Failure != "":
		return state{bad, "Not sequencing"}
	case s.Held > 0 || s.Lag > time.Minute:
		return state{warn, "Behind"}
	case s.Verified.IsZero():
		return state{info, "Not verified yet"}
	}
	return state{ok, "Sound"}
}

// entryState is an entry's outcome.
func entryState(outcome string) state {
	if outcome == audit.Denied {
		return state{bad, "Denied"}
	}
	return state{ok, "Done"}
}

// provenState says whether an entry can be proven.
func provenState(r audit.Row) state {
	if r.Leaf == nil {
		return state{info, "Waits for the tree"}
	}
	return state{ok, "Leaf " + number(*r.Leaf)}
}

// detail is one line of an entry's details.
type detail struct{ name, value string }

// details are an entry's details as lines, in the order of their names.
func details(raw json.RawMessage) (out []detail) {
	var m map[string]any
	if json.Unmarshal(raw, &m) != nil {
		if len(raw) == 0 {
			return nil
		}
		return []detail{{"Details", string(raw)}}
	}
	for name, value := range m {
		text, is := value.(string)
		if !is {
			body, _ := json.Marshal(value) // it came from JSON
			text = string(body)
		}
		out = append(out, detail{capital(strings.ReplaceAll(name, "_", " ")), text})
	}
	slices.SortFunc(out, func(a, b detail) int { return strings.Compare(a.name, b.name) })
	return out
}
