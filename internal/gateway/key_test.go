package gateway

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/sovereignty"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"
)

// keyFor makes an API key without a database, by the form that package access
// states: prefix, selector, secret, and 80 bits of HMAC-SHA256 over both.
func keyFor(t *testing.T, macKey []byte, org uuid.UUID) (token string, stored access.StoredKey) {
	t.Helper()
	const selector, secret = "abcdefghij", "abcdefghijklmnopqrstuvwxyz234567"
	mac := hmac.New(sha256.New, macKey)
	mac.Write([]byte(selector + secret))
	tag := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").EncodeToString(mac.Sum(nil)[:10])
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return "fdy_" + selector + secret + tag, access.StoredKey{Key: access.Key{ID: selector, Organisation: org, Version: 1}, Hash: string(hash)}
}

// answering is a gateway with a journal and no database, and a key of an
// organisation for it. intercept, which may be nil, comes between the journal
// and its disk.
func answering(t *testing.T, c Config, policy sovereignty.Policy, intercept func(op, path string) error) (g *Gateway, token string, registry *prometheus.Registry) {
	t.Helper()
	plain := func(in, _ []byte) ([]byte, error) { return in, nil }
	j, err := journal.Open(t.TempDir(), journal.Options{Node: 1, Boot: 1, Seal: plain, Open: plain, Intercept: intercept})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(t.Context()) })
	macKey := bytes.Repeat([]byte{1}, 32)
	budgets := ledger.NewBudgets(nil, ledger.BudgetOptions{Node: 1, Boot: 1})
	budgets.Load(nil)
	registry = prometheus.NewRegistry()
	g, err = New(Options{Config: c, Node: 1, Boot: 1, Recorder: ledger.NewRecorder(j, 1, 1), Budgets: budgets, Verifier: access.NewVerifier(macKey),
		Metrics: NewMetrics(registry), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	org := access.Organisation{ID: uuid.New(), Name: "o", Status: "active"}
	token, key := keyFor(t, macKey, org.ID)
	g.use(snapshot{Records: access.Records{TakenAt: time.Now(), Organisations: []access.Organisation{org}, Keys: []access.StoredKey{key}},
		Policies: map[uuid.UUID]sovereignty.Policy{org.ID: policy}})
	return g, token, registry
}
