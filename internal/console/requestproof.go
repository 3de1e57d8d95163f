package console

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/mod/sumdb/tlog"
)

// requestProofRoutes prove single model requests.
func (c *Console) requestProofRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toRequests + "/{id}/proof", Action: "audit.prove", do: c.requestProof},
		{Pattern: "GET " + toRequests + "/{id}/proof.json", Action: "audit.prove", do: c.requestBundle},
	}
}

// requestProofData is the proof of a request: of each of its rows, by way of
// the batch that it was stored with.
type requestProofData struct {
	v       *visit
	id      ledger.RequestID
	rows    []provenRow
	signers []string
	problem string
	keys    []audit.PublicKey
	at      audit.Checkpoint
}

// provenRow is one row: its way to the root of its batch, and from there to
// the root of the log.
type provenRow struct {
	proofData
	table   string
	cells   []audit.Cell
	row     string      // its fingerprint
	n, of   int64       // its place in the batch
	inBatch []proofStep // to the batch's root
	batch   string      // the batch's root
	events  int64
}

// proveRequest makes the proof and writes down that it was asked for.
func (c *Console) proveRequest(ctx context.Context, v *visit) (ledger.RequestID, audit.Bundle, error) {
	id, err := ledger.ParseRequestID(v.r.PathValue("id"))
	if err != nil {
		return id, audit.Bundle{}, problem.New(problem.NotFound, "request-id", "That is not a request id.").WithMend("It is req_ and 26 letters and digits, as in the x-request-id header of the answer.")
	}
	if c.Audit == nil {
		return id, audit.Bundle{}, errNoLog
	}
	rows, err := ledger.NewProofs(c.DB).Request(ctx, id, v.who().Organisation)
	if err != nil {
		return id, audit.Bundle{}, err
	}
	b, err := c.Audit.ProveRows(ctx, id.String(), rows)
	if err != nil {
		return id, b, err
	}
	return id, b, c.Audit.Record(ctx, v.who(), v.who().Organisation, "audit.prove", id.String(), nil)
}

func (c *Console) requestProof(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	id, b, err := c.proveRequest(ctx, v)
	if err != nil {
		return err
	}
	d := requestProofData{v: v, id: id, signers: signersOf(b.Checkpoint)}
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
	if _, d.at, err = audit.CheckBundle(text, vkeys); err != nil {
		d.problem = problem.From(err).Detail
	} else {
		d.draw(b.Proofs)
	}
	return v.show(page{Title: "Proof", Path: toRequests, Crumbs: []crumb{{"Requests", v.ofOrganisation(toRequests)}, {"Request", v.ofOrganisation(toRequests + "/" + id.String())}}}, requestProofBody(d))
}

// draw computes both ways of every row again.
func (d *requestProofData) draw(proofs []audit.Proof) {
	for _, p := range proofs {
		if p.Row == nil || p.Batch == nil {
			continue
		}
		r := provenRow{proofData: proofData{checkpoint: d.at}, table: p.Row.Table, cells: p.Row.Cells, n: p.Row.N, of: p.Row.Of, events: int64(p.Batch.Events)}
		hash, root := rowHash(p.Row), tlog.Hash{}
		r.row = short(hash)
		r.inBatch, root = climb(p.Row.N, p.Row.Of, hash, p.Row.Path)
		r.batch = short(root)
		if string(root[:]) != string(p.Batch.Root) || p.Batch.LeafHash() != p.LeafHash {
			d.problem = "The way from a row does not end at the root of its batch."
		}
		if r.proofData.draw(p); r.proofData.problem != "" {
			d.problem = r.proofData.problem
		}
		d.rows = append(d.rows, r)
	}
}

// rowHash is the fingerprint of a row from what stands in its proof.
func rowHash(r *audit.ProofRow) tlog.Hash {
	salt, err := hex.DecodeString(r.Salt)
	if err != nil {
		return tlog.Hash{}
	}
	cells := make([][]byte, len(r.Cells))
	for i, c := range r.Cells {
		if c.Hex == nil {
			continue
		}
		if cells[i], err = hex.DecodeString(*c.Hex); err != nil {
			return tlog.Hash{}
		}
		if cells[i] == nil { // empty is not absent
			cells[i] = []byte{}
		}
	}
	return audit.RowHash(salt, r.Table, cells)
}

// requestBundle downloads the proof, for checking on another machine.
func (c *Console) requestBundle(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	id, b, err := c.proveRequest(ctx, v)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", requestProofFile(id)))
	_, _ = v.w.Write(append(text, '\n'))
	return nil
}

func requestProofFile(id ledger.RequestID) string { return "foundry-proof-" + id.String() + ".json" }

// ofOrganisation keeps the organisation that staff look at in an address.
func (v *visit) ofOrganisation(path string) templ.SafeURL {
	return with(path, "organisation", v.r.URL.Query().Get("organisation"))
}

// tableWords say what a row of the ledger records.
var tableWords = map[string]string{
	"requests":         "The request: its admission, and what was decided",
	"request_attempts": "A place that it was sent to",
	"request_outcomes": "How it ended",
	"transfers":        "Its entry in the register of transfers",
	"refusals":         "Its refusal",
	"journal_rejects":  "A record that was set aside",
}

func tableWord(table string) string {
	if w := tableWords[table]; w != "" {
		return w
	}
	return capital(table)
}

// shown are the cells that say something.
func shown(cells []audit.Cell) (out []audit.Cell) {
	for _, c := range cells {
		if c.Hex != nil && c.Text != "" {
			out = append(out, c)
		}
	}
	return out
}
