package member

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Joined is what a join brought.
type Joined struct {
	Fleet string   `json:"fleet"`
	Name  string   `json:"name"`
	Roles []Role   `json:"roles"`
	Nodes []string `json:"nodes"`
	Keys  bool     `json:"keys"`          // the installation's were given and taken
	Why   string   `json:"why,omitempty"` // not
}

// Join uses an invitation and fills o.Dir, which has to be empty; [Start]
// then begins as a node of that fleet. Nothing runs in o.Dir meanwhile.
func Join(ctx context.Context, o Options, token string) (j Joined, err error) {
	t, err := parseTicket(token)
	if err != nil {
		return j, err
	}
	if o.Name != "" && o.Name != t.way.Name {
		return j, problem.New(problem.Conflict, "node-name-other", fmt.Sprintf("The invitation is for %q, and this node is %q.", t.way.Name, o.Name)).WithField("fleet.name").
			WithMend("Ask for an invitation under this name, or change the node's.")
	}
	if o.Schema == 0 {
		o.Schema = Schema
	}
	o.Name, o.Advertise = t.way.Name, o.Advertise.or(o.Listen)
	if err := CheckAddresses(o.Listen, o.Advertise); err != nil {
		return j, err
	}
	f, err := openFiles(o.Dir, o.Ring)
	if err != nil {
		return j, err
	}
	if r := f.read(); r.Fleet != "" {
		return j, problem.New(problem.Conflict, "node-joined-already", fmt.Sprintf("This node is %q in a fleet already.", r.Name)).
			WithMend("Join from a data directory of its own. To give up what this one has (a fleet of one, say), delete " + o.Dir + " first.")
	}
	public, recipient, err := f.newNode()
	if err != nil {
		return j, err
	}
	key, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return j, fmt.Errorf("writing the node's key: %w", err)
	}
	a, err := ask(ctx, t, request{Code: t.code(), Name: o.Name, Roles: o.Roles, Key: key, Recipient: recipient, Addresses: o.Advertise, Version: o.Version, Schema: o.Schema})
	if err != nil {
		return j, err
	}
	j = Joined{Fleet: a.Fleet, Name: o.Name, Roles: a.Roles, Why: a.Why}
	switch {
	case len(a.Given) > 0 && o.Take != nil:
		if err := f.take(a.Given, o.Take); err != nil {
			return j, err
		}
		j.Keys = true
	case len(a.Given) > 0:
		j.Why = "this node had keys before"
	}
	if err := f.settle(t, a, o); err != nil {
		return j, err
	}
	for _, k := range a.Members {
		j.Nodes = append(j.Nodes, k.Name)
	}
	return j, nil
}

// ask tries the doors of the invitation in turn. An answer that refuses is an
// answer: the next door would say the same.
func ask(ctx context.Context, t ticket, r request) (a admission, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("writing the request to join: %w", err)
	}
	err = problem.New(problem.Unavailable, "fleet-unreachable", "No member that the invitation names can be reached.").
		WithMend("Check the way to their addresses; the door for joining is fleet.listen.join on a member.")
	for _, address := range t.way.Addresses {
		out, perr := post(ctx, "https://"+address+joinPath, pinned(t.way), body)
		if perr == nil {
			return decode[admission](out)
		}
		var answered *problem.Error
		if errors.As(perr, &answered) {
			return a, perr
		}
		err = problem.From(err).Wrap(perr)
	}
	return a, err
}

func post(ctx context.Context, url string, config *tls.Config, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	w, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer w.Body.Close()
	out, err := io.ReadAll(io.LimitReader(w.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if w.StatusCode != http.StatusOK {
		var p struct{ Type, Detail, Code, Field, Mend string }
		if json.Unmarshal(out, &p) != nil || p.Code == "" {
			return nil, fmt.Errorf("the member answered %s", w.Status)
		}
		return nil, problem.New(problem.KindOf(p.Type, w.StatusCode), p.Code, p.Detail).WithField(p.Field).WithMend(p.Mend)
	}
	return out, nil
}

// take opens what was given, and seals what is here already by the ring that
// follows from it.
func (f *files) take(given []byte, take func([]byte) (Ring, error)) error {
	kept := map[string][]byte{}
	for _, name := range []string{identityFile, keyFile} {
		plain, err := f.open(name)
		if err != nil {
			return err
		}
		defer clear(plain)
		kept[name] = plain
	}
	body, err := f.openOwn(given)
	if err != nil {
		return err
	}
	defer clear(body)
	ring, err := take(body)
	if err != nil {
		return err
	}
	f.ring = ring
	for name, plain := range kept {
		if err := f.seal(name, plain); err != nil {
			return err
		}
	}
	return nil
}

// settle checks what came and writes it down; the record last.
func (f *files) settle(t ticket, a admission, o Options) error {
	authority, err := readAuthority(a.Authority, nil)
	if err != nil {
		return err
	}
	if sum := authority.fingerprint(); !bytes.Equal(sum[:], t.way.Fingerprint) {
		return errPin
	}
	if _, err := authority.revoked(a.Revoked); err != nil {
		return err
	}
	cert, err := decodeCert(a.Cert)
	if err != nil {
		return err
	}
	if name, _, ok := holder(cert); !ok || name != o.Name {
		return problem.New(problem.Upstream, "fleet-answer", "The member gave a certificate for another node.")
	}
	identity, err := f.open(identityFile)
	if err != nil {
		return err
	}
	defer clear(identity)
	body, err := openSealed(string(identity), a.Sealed)
	if err != nil {
		return err
	}
	defer clear(body)
	s, err := decode[secrets](body)
	if err != nil {
		return err
	}
	defer clear(s.Keyset)
	defer clear(s.Authority)
	if _, err := openKeyset(s.Keyset); err != nil {
		return err
	}
	errs := []error{f.seal(keysetFile, s.Keyset), replaceFile(f.path(caFile), a.Authority), replaceFile(f.path(certFile), a.Cert), replaceFile(f.path(revokedFile), a.Revoked)}
	if slices.Contains(a.Roles, Fleet) {
		if _, err := readAuthority(a.Authority, s.Authority); err != nil {
			return err
		}
		errs = append(errs, f.seal(caKeyFile, s.Authority))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return f.update(func(r *record) {
		*r = record{Fleet: a.Fleet, Name: o.Name, Roles: a.Roles, Joined: time.Now().UTC(), Initial: a.Initial, Advertise: o.Advertise, Members: a.Members}
	})
}

// askRenewal gets a new certificate for a new key from a member.
func (m *Member) askRenewal(ctx context.Context) error {
	key, private, err := newKey()
	if err != nil {
		return err
	}
	defer clear(private)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("writing the node's key: %w", err)
	}
	body, err := json.Marshal(request{Key: public})
	if err != nil {
		return fmt.Errorf("writing the request for a certificate: %w", err)
	}
	nodes, err := m.Nodes(ctx)
	if err != nil {
		return err
	}
	err = problem.New(problem.Unavailable, "fleet-unreachable", "No member that issues certificates can be reached.")
	for _, n := range nodes {
		if n.Addresses.Join == "" || !slices.Contains(n.Roles, Fleet) {
			continue
		}
		out, perr := post(ctx, "https://"+n.Addresses.Join+renewPath, m.tls.dial(memberName), body)
		if perr != nil {
			err = problem.From(err).Wrap(perr)
			continue
		}
		a, derr := decode[admission](out)
		if derr != nil {
			return derr
		}
		return m.files.replacePair(private, a.Cert)
	}
	return err
}
