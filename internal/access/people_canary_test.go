package access

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
)

// After everything that people do, nothing that names or opens anything lies
// in any table, in plaintext, hexadecimal or base64, nor in the log.
func TestNoSecretAndNoAddressLiesInTheDatabase(t *testing.T) {
	w := newCompany(t)
	var log bytes.Buffer
	w.sessions.log = slog.New(slog.NewTextHandler(&log, nil))
	const email = "canary.person@canary.example"
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: w.org.ID, Email: email, Name: "Zebulon Quartermain", Roles: principal.RolesOf(principal.Administrator)})
	w.must(err)
	in, err := w.people.Accept(ctx, w.client(), token, Acceptance{Password: goodPassword})
	w.must(err)
	m := &member{w: w, id: in.Session.Person, email: email, in: in}
	secrets := []string{email, "canary.person", "Zebulon", "Quartermain", goodPassword, otherGood, token, token[14:46], in.Token, in.Token[14:46], "192.0.2.", "Blue key"}
	m.enrolTOTP()
	secrets = append(secrets, m.secret, m.in.Token[14:46])
	m.enrolPasskey()
	secrets = append(secrets, m.in.Token[14:46])
	for _, c := range m.codes {
		secrets = append(secrets, c, strings.ReplaceAll(c, "-", ""), strings.ReplaceAll(c, "-", "")[5:])
	}
	if _, err := w.people.SignInPassword(ctx, w.client(), "canary.stranger@canary.example", goodPassword); err == nil {
		t.Fatal("a stranger")
	}
	secrets = append(secrets, "canary.stranger")
	at, err := w.people.SignInPassword(ctx, w.client(), email, goodPassword)
	w.must(err)
	secrets = append(secrets, at.Ceremony)
	if _, err := w.people.BeginPasskey(ctx, w.client(), at.Ceremony); err != nil { // left half done
		t.Fatal(err)
	}
	m.signIn()
	if m.in, err = w.people.ChangePassword(ctx, m.in.Principal, w.client(), goodPassword, otherGood); err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, m.in.Token[14:46])
	_, token, err = w.people.Recover(ctx, operator, m.id)
	w.must(err)
	secrets = append(secrets, token[14:46])

	conn := dbtest.Superuser(t, w.cfg)
	rows, err := conn.Query(ctx, `SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`)
	w.must(err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.must(err)
	seen := 0
	for _, table := range tables {
		var dump bytes.Buffer
		if _, err := conn.PgConn().CopyTo(ctx, &dump, "COPY "+table+" TO STDOUT"); err != nil {
			t.Fatal(err)
		}
		seen += dump.Len()
		text := dump.String() + log.String()
		for _, s := range secrets {
			for name, form := range map[string]string{"in plaintext": s, "in hexadecimal": strings.TrimPrefix(byteaText([]byte(s)), `\x`), "in base64": b64.EncodeToString([]byte(s))} {
				if strings.Contains(text, form) {
					t.Errorf("%s holds %q %s", table, s, name)
				}
			}
		}
	}
	if len(tables) < 20 || seen < 10_000 {
		t.Fatalf("looked at %d bytes of %d tables", seen, len(tables))
	}
}

// Control O-12: every stored hash is bcrypt with an adequate cost.
func TestEveryStoredHashIsBcryptWithAnAdequateCost(t *testing.T) {
	w := newThoroughCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	m.enrolPasskey()
	for query, least := range map[string]string{
		`SELECT split_part(password_hash, ':', 3) FROM people WHERE password_hash IS NOT NULL`: "12",
		`SELECT secret_hash FROM sessions`: "10", `SELECT secret_hash FROM invitations`: "10", `SELECT code_hash FROM recovery_codes`: "10",
	} {
		var hashes []string
		w.must(w.d.Read(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, query)
			if err == nil {
				hashes, err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
			return err
		}))
		if len(hashes) == 0 {
			t.Errorf("%s: nothing", query)
		}
		for _, h := range hashes {
			if !strings.HasPrefix(h, "$2a$"+least+"$") {
				t.Errorf("%s: %.8s", query, h)
			}
		}
	}
	cheap, err := credential.NewQuickHasher(w.people.Peppers...)
	w.must(err)
	hash, err := cheap.Hash(goodPassword)
	w.must(err)
	err = w.d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return setPassword(ctx, tx, m.id, hash) })
	if err == nil {
		t.Error("the database takes a password that was hashed quickly")
	}
}
