package db

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A watchdog ends a server whose deadline has passed, but it may be late: when
// a machine, or all its processes, were stopped past the deadline and go on,
// the server goes on in the same moment, and has answered somebody before the
// watchdog has looked. So a server with a deadline answers no commit by itself.
// The process that keeps the deadline is its only synchronous standby
// (synchronous_standby_names): it is sent the log, keeps nothing of it, and
// confirms what it was sent before the deadline.
//
// The server sends what it has flushed, so whatever is confirmed was in its log
// when the clock was read, and that was before the deadline: a commit that is
// acknowledged is of the time in which the server might write, however late the
// word of it reaches the client. Nothing that begins after the deadline is
// acknowledged, whoever is stopped and goes on, and in whatever order.
//
// PostgreSQL gives up waiting, and acknowledges with a warning, when the
// statement is cancelled or runs into statement_timeout (60 s here). The
// watchdog has ended the server long before; Foundry's own sessions take such a
// commit for one whose outcome is unknown, see [uncertain].

// Countersigner is the role of that standby. It exists on private clusters
// only, and only the user that runs Foundry may be it, over the socket.
const Countersigner Role = "foundry_countersign"

func countersignStatements() []string {
	return []string{
		fmt.Sprintf("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%[1]s') THEN CREATE ROLE %[1]s; END IF; END $$", Countersigner),
		fmt.Sprintf("ALTER ROLE %s WITH %s", Countersigner, strings.Replace(attributes, "NOREPLICATION", "REPLICATION", 1)),
		fmt.Sprintf("COMMENT ON ROLE %s IS 'Foundry: confirms commits until the deadline'", Countersigner),
		quietStatement(Countersigner),
	}
}

// countersigner confirms commits for as long as the deadline has not passed.
type countersigner struct {
	c     *Cluster
	begun chan struct{} // closed at the first confirmation
	begin func()
	stop  context.CancelFunc
	done  chan struct{}
}

func newCountersigner(c *Cluster) *countersigner {
	ctx, stop := context.WithCancel(context.Background())
	s := &countersigner{c: c, begun: make(chan struct{}), stop: stop, done: make(chan struct{})}
	s.begin = sync.OnceFunc(func() { close(s.begun) })
	go s.run(ctx)
	return s
}

// end closes its connection: a server that shuts down waits for a standby that
// is there.
func (s *countersigner) end() {
	s.stop()
	<-s.done
}

// run signs, and again on a new connection whenever the server was started
// anew, until ctx ends.
func (s *countersigner) run(ctx context.Context) {
	defer close(s.done)
	for said := ""; ctx.Err() == nil; {
		err := s.sign(ctx)
		if err != nil && ctx.Err() == nil && s.c.mayRun() && err.Error() != said {
			said = err.Error() // once, not twenty times a second while it is down
			s.c.log.Warn("commits wait until they are countersigned again", "cause", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchEvery):
		}
	}
}

const signIdle = 500 * time.Millisecond // how late it is noticed that a passed deadline was moved

// sign follows the log on one connection.
func (s *countersigner) sign(ctx context.Context) error {
	conn, at, err := s.follow(ctx)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	sent, signed, wanted := at, uint64(0), true
	for {
		if sent > signed && !s.c.until.passed() { // read after the server sent it, hence after it was flushed
			signed, wanted = sent, true
		}
		if wanted {
			if err := confirm(conn, signed); err != nil {
				return err
			}
			if wanted = false; signed > 0 {
				s.begin()
			}
		}
		one, cancel := context.WithTimeout(ctx, signIdle)
		message, err := conn.ReceiveMessage(one)
		cancel()
		switch {
		case err != nil && pgconn.Timeout(err) && ctx.Err() == nil && !conn.IsClosed():
			continue
		case err != nil:
			return err
		}
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CopyDone:
			return errors.New("the server sends its log no more")
		case *pgproto3.CopyData:
			upto, asked, err := readSent(m.Data)
			if err != nil {
				return err
			}
			sent, wanted = max(sent, upto), asked
		}
	}
}

// follow connects as the standby and has the log sent from where it ends.
func (s *countersigner) follow(ctx context.Context) (_ *pgconn.PgConn, at uint64, err error) {
	cfg, err := pgconn.ParseConfig(s.c.Config().DSN)
	if err != nil {
		return nil, 0, err
	}
	cfg.User, cfg.ConnectTimeout = string(Countersigner), 5*time.Second
	cfg.RuntimeParams = map[string]string{"replication": "true", "application_name": string(Countersigner)}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	all, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return nil, 0, err
	}
	if len(all) != 1 || len(all[0].Rows) != 1 || len(all[0].Rows[0]) < 3 {
		return nil, 0, errors.New("the server did not say where its log ends")
	}
	position := string(all[0].Rows[0][2])
	if at, err = parseLSN(position); err != nil {
		return nil, 0, err
	}
	conn.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + position})
	if err := conn.Frontend().Flush(); err != nil {
		return nil, 0, err
	}
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return nil, 0, err
		}
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			return nil, 0, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CopyBothResponse:
			return conn, at, nil
		}
	}
}

// readSent reads up to where a message of the server says that its log was
// sent, and whether it wants an answer (PostgreSQL, streaming replication
// protocol: XLogData and primary keepalive).
func readSent(body []byte) (upto uint64, asked bool, err error) {
	switch {
	case len(body) >= 25 && body[0] == 'w':
		return binary.BigEndian.Uint64(body[1:]) + uint64(len(body)-25), false, nil
	case len(body) >= 18 && body[0] == 'k':
		return binary.BigEndian.Uint64(body[1:]), body[17] != 0, nil
	}
	return 0, false, errors.New("the server sent its log in a way that is not known")
}

// postgresEpoch is from when PostgreSQL counts.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// confirm says up to where the log is written, flushed and applied (standby
// status update).
func confirm(conn *pgconn.PgConn, upto uint64) error {
	body := []byte{'r'}
	for range 3 {
		body = binary.BigEndian.AppendUint64(body, upto)
	}
	body = binary.BigEndian.AppendUint64(body, uint64(time.Since(postgresEpoch).Microseconds()))
	conn.Frontend().Send(&pgproto3.CopyData{Data: append(body, 0)})
	return conn.Frontend().Flush()
}

// parseLSN reads a place in the log: 16/B374D848.
func parseLSN(text string) (uint64, error) {
	high, low, ok := strings.Cut(text, "/")
	h, herr := strconv.ParseUint(high, 16, 32)
	l, lerr := strconv.ParseUint(low, 16, 32)
	if !ok || herr != nil || lerr != nil {
		return 0, fmt.Errorf("%q is no place in the log", text)
	}
	return h<<32 | l, nil
}

// unsigned notes on a connection that the server acknowledges a commit that
// nobody has countersigned.
func unsigned(conn *pgconn.PgConn, n *pgconn.Notice) {
	if n.Code == "01000" && strings.HasPrefix(n.Message, "canceling wait for synchronous replication") {
		conn.CustomData()[unsignedCommit] = true
	}
}

const unsignedCommit = "unsigned commit"

// uncertain says whether the commit that was acknowledged last was not
// countersigned: it is in the log of that server, and may be in no other's.
func uncertain(conn *pgconn.PgConn) bool {
	noted := conn.CustomData()[unsignedCommit] != nil
	delete(conn.CustomData(), unsignedCommit)
	return noted
}
