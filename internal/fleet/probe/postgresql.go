package probe

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/missionopsai/foundry/internal/plan"
)

// postgresql looks at a database server. Without a login it sees only that the
// server answers; with one, whether it can be written or how far it follows.
func (l *look) postgresql(ctx context.Context) finding {
	var login Login
	var ok bool
	if l.env.Login != nil {
		var err error
		if login, ok, err = l.env.Login(ctx, l.spec); err != nil {
			return unknown(Credentials, "What to sign in to %s with cannot be read on this node.", l.t.place())
		}
	}
	if !ok {
		f := l.postgresAnswers(ctx)
		if role := l.t.word("role", "any"); f.ok && role != "any" {
			return unknown(Credentials, "%s answers; whether it is a %s is not known without a login.", l.t.place(), role)
		}
		return f
	}
	conn, err := l.postgresConnect(ctx, login)
	if err != nil {
		return l.postgresFailed(err)
	}
	defer func() {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(done)
	}()
	s, err := readStanding(ctx, conn)
	if err != nil {
		return l.postgresFailed(err)
	}
	l.fact("version", conn.ParameterStatus("server_version"))
	l.fact("recovery", strconv.FormatBool(s.recovery))
	switch role := l.t.word("role", "any"); {
	case role == "standby" || role == "any" && s.recovery:
		return l.standby(s, role)
	case role == "any" && s.readOnly: // the role's own setting, perhaps: it asks for no more
		return good("%s answers queries; this login only reads.", l.t.place())
	case role == "any":
		return good("%s answers queries and is not read-only.", l.t.place())
	case s.recovery:
		return bad(ReadOnly, "%s is in recovery and cannot be written.", l.t.place())
	case s.readOnly:
		return bad(ReadOnly, "%s answers, but can only be read, at least with this login.", l.t.place())
	}
	// What counts is a commit: a full disk, a lost synchronous standby or a
	// fence shows nowhere else. The message is in no table and costs about a
	// hundred bytes of WAL; any role may write it.
	if err := conn.Exec(ctx, "select pg_logical_emit_message(true, 'foundry-probe', '')").Close(); err != nil {
		if code, why := classify(err); code == Timeout {
			return bad(ReadOnly, "%s answers, but takes no commit: %s.", l.t.place(), why)
		}
		f := l.postgresFailed(err)
		if f.code == Protocol || f.code == BadStatus {
			f.code = ReadOnly
		}
		return f
	}
	return good("%s takes commits.", l.t.place())
}

// standby judges a server in recovery.
func (l *look) standby(s standing, role string) finding {
	if !s.recovery {
		return bad(NotStandby, "%s is not in recovery: it follows nobody.", l.t.place())
	}
	l.fact("receiving", strconv.FormatBool(s.receiving))
	l.fact("lag_bytes", strconv.FormatInt(s.bytes, 10))
	if s.seconds >= 0 {
		l.fact("lag_seconds", strconv.FormatFloat(s.seconds, 'f', 1, 64))
	}
	behind := time.Duration(s.seconds * float64(time.Second))
	if most := l.t.span("lag", 0); most > 0 {
		switch {
		case s.seconds < 0:
			return unknown(Lag, "%s has replayed no transaction yet, so that its lag is not known.", l.t.place())
		case behind > most && !s.receiving:
			return bad(Lag, "%s receives nothing from its primary and is up to %s behind; %s is allowed.", l.t.place(), plan.FormatDuration(behind.Truncate(time.Second)), plan.FormatDuration(most))
		case behind > most:
			return bad(Lag, "%s is %s behind; %s is allowed.", l.t.place(), plan.FormatDuration(behind.Truncate(time.Second)), plan.FormatDuration(most))
		}
	}
	if most := l.t.word("bytes", ""); most != "" {
		if size, _ := plan.ParseSize(most); s.bytes > size.Bytes() { // checked when it was read
			return bad(Lag, "%s has %d bytes to replay; %s is allowed.", l.t.place(), s.bytes, most)
		}
	}
	if role == "any" {
		return good("%s answers queries; it is in recovery.", l.t.place())
	}
	return good("%s follows its primary.", l.t.place())
}

// standing is what a server says of itself.
type standing struct {
	recovery, readOnly, receiving bool
	bytes                         int64
	seconds                       float64 // -1: not known
}

// standingQuery needs no privilege but to connect. A standby that has replayed
// all that it received, and is receiving, is 0 seconds behind however long its
// primary has been quiet; one that receives nothing is as far behind as its
// last transaction.
const standingQuery = `select r::text, current_setting('transaction_read_only'), w::text,
 case when r then coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0) else 0 end::bigint::text,
 case when not r then 0
      when w and pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0
      else coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()), -1) end::float8::text
from (select pg_is_in_recovery() r, exists (select from pg_stat_wal_receiver) w) s`

func readStanding(ctx context.Context, conn *pgconn.PgConn) (s standing, err error) {
	results, err := conn.Exec(ctx, standingQuery).ReadAll()
	if err != nil {
		return s, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 5 {
		return s, failed(Protocol, "The database does not answer as PostgreSQL does.")
	}
	row := results[0].Rows[0]
	s.recovery, s.readOnly, s.receiving = string(row[0]) == "true", string(row[1]) != "off", string(row[2]) == "true"
	s.bytes, _ = strconv.ParseInt(string(row[3]), 10, 64)
	s.seconds, err = strconv.ParseFloat(string(row[4]), 64)
	if err != nil || s.seconds != s.seconds || s.seconds > 1e9 {
		return s, failed(Protocol, "The database does not answer as PostgreSQL does.")
	}
	return s, nil
}

// postgresConnect signs in over a connection that is bounded as every other.
func (l *look) postgresConnect(ctx context.Context, login Login) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig("host=localhost sslmode=disable") // none of this process's environment
	if err != nil {
		return nil, failed(NotAvailable, "PostgreSQL cannot be asked from here.")
	}
	c.Host, c.Port, c.Database, c.User, c.Password = l.t.Host, l.t.Port, l.t.Rest, login.User, login.Password
	if c.Database == "" {
		c.Database = "postgres"
	}
	c.Fallbacks, c.TLSConfig, c.ConnectTimeout = nil, nil, 0
	c.RuntimeParams = map[string]string{"application_name": "foundry-probe"}
	c.MaxProtocolMessageBodyLen = 256 << 10
	c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{l.t.Host}, nil }
	if strings.HasPrefix(l.t.Host, "/") {
		c.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return l.postgresSocket(ctx) }
		return pgconn.ConnectConfig(ctx, c)
	}
	p, err := l.resolve(ctx, l.t.Host, l.t.Port)
	if err != nil {
		return nil, err
	}
	c.DialFunc = func(dctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx, p) }
	if mode := l.postgresTLS(p); mode != "none" {
		c.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: p.host, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			l.fact("tls", tls.VersionName(s.Version))
			if mode == "require" {
				return nil
			}
			return l.judge(s.PeerCertificates, l.env.Roots, l.asks(p))
		}}
		if mode == "require" {
			c.RequireAuth = "scram-sha-256,none" // nothing that hands the password to whoever answers
		}
	} else {
		c.RequireAuth = "scram-sha-256,none"
	}
	return pgconn.ConnectConfig(ctx, c)
}

func (l *look) postgresTLS(p place) string {
	otherwise := "verify"
	if len(p.addrs) > 0 && p.addrs[0].IsLoopback() {
		otherwise = "none"
	}
	return l.t.word("tls", otherwise)
}

func (l *look) postgresSocket(ctx context.Context) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, "unix", fmt.Sprintf("%s/.s.PGSQL.%d", l.t.Host, l.t.Port))
	if err != nil {
		code, why := classify(err)
		return nil, failed(code, "%s cannot be connected to: %s.", l.t.place(), why)
	}
	return bound(ctx, conn), nil
}

// postgresFailed explains an error by the server's own code, never its text:
// that may name a user or quote a statement.
func (l *look) postgresFailed(err error) finding {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return l.postgresRefusal(server.Code)
	}
	var known *failure
	if errors.As(err, &known) {
		return bad(known.code, "%s", known.words)
	}
	code, why := classify(err)
	if code == Protocol {
		why = "what it answers is not understood, or it wants to be signed in to in another way"
	}
	return bad(code, "%s does not answer as PostgreSQL does: %s.", l.t.place(), why)
}

// postgresRefusal reads an SQLSTATE (PostgreSQL manual, appendix A).
func (l *look) postgresRefusal(state string) finding {
	l.fact("sqlstate", state)
	switch {
	case state == "57P03": // cannot_connect_now
		return bad(Starting, "%s says that it is starting, stopping or recovering.", l.t.place())
	case state == "57P01" || state == "57P02": // admin_shutdown, crash_shutdown
		return bad(Starting, "%s says that it is stopping.", l.t.place())
	case strings.HasPrefix(state, "53"): // insufficient_resources
		return bad(Busy, "%s says that it has no connections, memory or space left.", l.t.place())
	case strings.HasPrefix(state, "28"): // invalid_authorization_specification
		return bad(Credentials, "%s refuses what this node signs in with.", l.t.place())
	case state == "3D000": // invalid_catalog_name
		return bad(BadAnswer, "%s has no database of that name.", l.t.place())
	case state == "25006": // read_only_sql_transaction
		return bad(ReadOnly, "%s answers, but cannot be written.", l.t.place())
	}
	return bad(BadStatus, "%s answers with an error (SQLSTATE %s).", l.t.place(), clean(state, 5))
}

// postgresAnswers sends a startup message (PostgreSQL manual, section 55.2.1)
// and looks what comes: a question for a password is an answer.
func (l *look) postgresAnswers(ctx context.Context) finding {
	var conn net.Conn
	var err error
	if strings.HasPrefix(l.t.Host, "/") {
		conn, err = l.postgresSocket(ctx)
	} else {
		var p place
		if p, err = l.resolve(ctx, l.t.Host, l.t.Port); err == nil {
			conn, err = l.dial(ctx, p)
		}
	}
	if err != nil {
		return because(err, "Connecting")
	}
	defer conn.Close()
	body := binary.BigEndian.AppendUint32(nil, 3<<16)
	body = append(body, "user\x00foundry_probe\x00database\x00postgres\x00application_name\x00foundry-probe\x00\x00"...)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)); err != nil {
		return because(err, "Asking "+l.t.place())
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return because(err, "Asking "+l.t.place())
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 16<<10 {
		return bad(Protocol, "What answers at %s is not PostgreSQL.", l.t.place())
	}
	rest := make([]byte, n-4)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return because(err, "Asking "+l.t.place())
	}
	return l.postgresFirst(head[0], rest)
}

// postgresFirst reads a server's first message.
func (l *look) postgresFirst(kind byte, body []byte) finding {
	switch kind {
	case 'R':
		return good("%s answers; what more it can do is not known without a login.", l.t.place())
	case 'E':
		state := sqlState(body)
		if strings.HasPrefix(state, "28") || state == "3D000" {
			return good("%s answers, and refuses strangers; what more it can do is not known without a login.", l.t.place())
		}
		if len(state) == 5 {
			return l.postgresRefusal(state)
		}
	}
	return bad(Protocol, "What answers at %s is not PostgreSQL.", l.t.place())
}

// sqlState finds the code in an error's fields (PostgreSQL manual, section 55.8).
func sqlState(body []byte) string {
	for field := range strings.SplitSeq(string(body), "\x00") {
		if len(field) == 6 && field[0] == 'C' {
			return field[1:]
		}
	}
	return ""
}
