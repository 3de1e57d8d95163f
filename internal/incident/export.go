package incident

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/evidence"
)

// An export is text: lines of fields between tabs, and one entry a line.
//
//	foundry-incident-export  1
//	incident  its id
//	made      when, by whom
//	head      number and hash of the last entry
//	key       id and public key (base64) that signs; no authority for itself
//	begin
//	          the entries, each as its one line of JSON
//	end       how many
//	seal      base64 of the Ed25519 signature over all bytes before
const (
	exportMagic   = "foundry-incident-export\t1\n"
	exportPurpose = "incident-export"
)

// MaxExport is how large an export may be that is verified.
const MaxExport = 256 << 20

// Export writes a timeline so that anybody can verify it without this node.
func Export(to io.Writer, t *Timeline, s *evidence.Signer, by string, now time.Time) error {
	var out bytes.Buffer
	line := func(fields ...string) { out.WriteString(strings.Join(fields, "\t") + "\n") }
	out.WriteString(exportMagic)
	line("incident", t.State.ID)
	line("made", now.UTC().Format(time.RFC3339), by)
	line("head", strconv.Itoa(t.State.Head.N), t.State.Head.Hash.String())
	line("key", s.ID(), base64.StdEncoding.EncodeToString(s.Public()))
	line("begin")
	for i := range t.Entries {
		entry, err := t.Entries[i].Encode()
		if err != nil {
			return err
		}
		out.Write(entry)
		out.WriteByte('\n')
	}
	line("end", strconv.Itoa(len(t.Entries)))
	seal := s.SignFor(exportPurpose, out.Bytes())
	line("seal", base64.StdEncoding.EncodeToString(seal))
	_, err := to.Write(out.Bytes())
	return err
}

// Verified is what an export says, once it verifies.
type Verified struct {
	*Timeline
	MadeAt string            `json:"made_at"`
	MadeBy string            `json:"made_by"`
	Signer string            `json:"signer"`
	Key    ed25519.PublicKey `json:"-"`
}

// VerifyExport checks an export as a whole: its seal, every entry, and the
// chain. Without a key that the reader trusts it says only that the file is
// whole: whose the key is, the id in Signer has to show.
func VerifyExport(from io.Reader, trusted ...ed25519.PublicKey) (*Verified, error) {
	text, err := io.ReadAll(io.LimitReader(from, MaxExport+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxExport {
		return nil, broken("The export is too large to be one.", nil)
	}
	v, entries, err := parseExport(text)
	if err != nil {
		return nil, err
	}
	for _, k := range trusted {
		if k.Equal(v.Key) {
			trusted = nil
			break
		}
	}
	if len(trusted) > 0 {
		return nil, broken("The export is signed by another key than the one given: "+v.Signer+".", nil)
	}
	if err := Verify(entries); err != nil {
		return nil, err
	}
	if len(entries) == 0 || v.State.ID != entries[0].Incident || v.State.Head != (Head{len(entries), entries[len(entries)-1].Hash}) {
		return nil, broken("The export's first lines speak of another timeline than it holds.", nil)
	}
	v.Entries, v.State = entries, Fold(entries)
	return v, nil
}

// parseExport takes an export apart and checks its seal.
func parseExport(text []byte) (*Verified, []Entry, error) {
	cut := bytes.LastIndex(text, []byte("\nseal\t")) + 1
	if !bytes.HasPrefix(text, []byte(exportMagic)) || cut == 0 {
		return nil, nil, broken("This is no export of an incident, or not a whole one.", nil)
	}
	lines := bufio.NewScanner(bytes.NewReader(text[len(exportMagic):]))
	lines.Buffer(nil, 4*MaxBody)
	var bad error
	next := func(name string, n int) []string {
		if !lines.Scan() {
			bad = errors.Join(bad, fmt.Errorf("the line %q is missing", name), lines.Err())
			return make([]string, n+1)
		}
		f := strings.Split(lines.Text(), "\t")
		if len(f) != n+1 || f[0] != name {
			bad = errors.Join(bad, fmt.Errorf("the line %q is not what it should be", name))
			return make([]string, n+1)
		}
		return f
	}
	v := &Verified{Timeline: &Timeline{State: &State{}}}
	v.State.ID = next("incident", 1)[1]
	made := next("made", 2)
	v.MadeAt, v.MadeBy = made[1], made[2]
	head := next("head", 2)
	n, err := strconv.Atoi(head[1])
	bad = errors.Join(bad, err, v.State.Head.Hash.UnmarshalText([]byte(head[2])))
	v.State.Head.N = n
	key := next("key", 2)
	v.Signer = key[1]
	public, err := base64.StdEncoding.Strict().DecodeString(key[2])
	v.Key = public
	if bad = errors.Join(bad, err); bad == nil && (len(public) != ed25519.PublicKeySize || evidence.SignerID(public) != v.Signer) {
		bad = errors.New("the key is not the one that is named")
	}
	next("begin", 0)
	if bad != nil {
		return nil, nil, broken("The export's first lines are not what they should be.", bad)
	}
	// the seal before the entries: what nobody signed is not worth reading
	last, ok := strings.CutSuffix(string(text[cut+len("seal\t"):]), "\n")
	seal, err := base64.StdEncoding.Strict().DecodeString(last)
	if err != nil || !ok || strings.Contains(last, "\n") {
		return nil, nil, broken("The seal cannot be read.", err)
	}
	if err := evidence.VerifyFor(v.Key, exportPurpose, text[:cut], seal); err != nil {
		return nil, nil, broken("The seal is not that of this file.", err)
	}
	var entries []Entry
	for lines.Scan() {
		if count, ok := strings.CutPrefix(lines.Text(), "end\t"); ok {
			if count != strconv.Itoa(len(entries)) {
				return nil, nil, broken("The export does not hold as many entries as it says.", nil)
			}
			return v, entries, nil
		}
		e, err := Decode(lines.Bytes())
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, e)
	}
	return nil, nil, broken("The export has no end.", lines.Err())
}
