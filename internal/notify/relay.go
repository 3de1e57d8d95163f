package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wneessen/go-mail/smtp"
)

// outcome is how an attempt at one relay ended.
type outcome string

const (
	accepted outcome = "accepted"
	doubtful outcome = "indeterminate" // it may have been taken
	deferred outcome = "deferred"      // certainly not taken; worth another try
	refused  outcome = "refused"       // certainly not taken, and will not be
)

// try is the record of an attempt at one relay.
type try struct {
	relay   string
	outcome outcome
	stage   string // connect, greeting, tls, auth, sender, recipient, data, content, answer
	code    int    // of the reply; 0: none came
	answer  string // without the address; safe to store and show
}

// maxAnswer bounds what is kept of a relay's words.
const maxAnswer = 300

// deliver gives a message to one relay. message ends with the composed bytes;
// ctx and the relay's timeout bound the whole exchange.
func (r Relay) deliver(ctx context.Context, helo string, c content, message []byte) try {
	t := try{relay: r.address()}
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.address())
	if err != nil {
		return t.failed("connect", err, c)
	}
	// smtp.Client leaves the connection open where its start fails.
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	s, stage, err := r.session(conn, helo, c)
	if err != nil {
		return t.failed(stage, err, c)
	}
	stage, answer, err := submit(s, c, message)
	if err != nil {
		return t.failed(stage, err, c)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_ = s.Quit() // the message is taken, whatever comes now
	t.outcome, t.stage, t.code, t.answer = accepted, "answer", 250, clean(answer, c)
	return t
}

// session greets the relay, encrypts and signs in.
func (r Relay) session(conn net.Conn, helo string, c content) (*smtp.Client, string, error) {
	config, err := r.tlsConfig()
	if err != nil {
		return nil, "tls", err
	}
	if r.TLS == ImplicitTLS {
		secure := tls.Client(conn, config)
		if err := secure.Handshake(); err != nil {
			return nil, "tls", err
		}
		conn = secure
	}
	s, err := smtp.NewClient(conn, config.ServerName)
	if err != nil {
		return nil, "greeting", err
	}
	if err := s.Hello(helo); err != nil {
		return nil, "greeting", err
	}
	if r.TLS == "" || r.TLS == StartTLS {
		if ok, _ := s.Extension("STARTTLS"); !ok {
			return nil, "tls", errNoTLS
		}
		if err := s.StartTLS(config); err != nil {
			return nil, "tls", err
		}
	}
	if state, ok := s.TLSConnectionState(); r.TLS != PlainText && (!ok || !state.HandshakeComplete) {
		return nil, "tls", errNoTLS
	}
	if r.Username != "" {
		if err := r.signIn(s, config.ServerName); err != nil {
			return nil, "auth", err
		}
	}
	// The server's certificate and our password are good: is it able?
	if ok, _ := s.Extension("SMTPUTF8"); c.To.Unicode() && !ok {
		return nil, "recipient", errNoUnicode
	}
	s.SkipSMTPUTF8(!c.To.Unicode())
	return s, "", nil
}

var (
	errNoTLS     = errors.New("the relay does not offer STARTTLS; nothing is sent unencrypted")
	errNoUnicode = errors.New("the relay cannot write to addresses outside ASCII (no SMTPUTF8)")
	errNoAuth    = errors.New("the relay offers no sign-in that is supported here (SCRAM-SHA-256, PLAIN, LOGIN)")
)

// signIn uses the strongest mechanism that the relay offers inside TLS.
func (r Relay) signIn(s *smtp.Client, host string) error {
	password, err := r.Password.Read("mail.relays.password")
	if err != nil {
		return err
	}
	_, offered := s.Extension("AUTH")
	list := strings.Fields(strings.ToUpper(offered))
	for _, m := range []struct {
		name string
		auth smtp.Auth
	}{
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(r.Username, password)},
		{"PLAIN", smtp.PlainAuth("", r.Username, password, host, false)},
		{"LOGIN", smtp.LoginAuth(r.Username, password, host, false)},
	} {
		for _, have := range list {
			if have == m.name {
				return s.Auth(m.auth)
			}
		}
	}
	return errNoAuth
}

// submit transfers the message. A lost connection before the final dot means
// that it was not taken (RFC 5321 section 4.1.1.4); after it, nobody knows.
func submit(s *smtp.Client, c content, message []byte) (stage, answer string, err error) {
	if err := s.Mail("<" + c.From.Email + ">"); err != nil {
		return "sender", "", err
	}
	if err := s.Rcpt("<" + c.To.Email + ">"); err != nil {
		return "recipient", "", err
	}
	w, err := s.Data()
	if err != nil {
		return "data", "", err
	}
	if _, err := w.Write(message); err != nil {
		return "content", "", err
	}
	if err := w.Close(); err != nil {
		return "answer", "", err
	}
	if d, ok := w.(*smtp.DataCloser); ok {
		answer = d.ServerResponse()
	}
	return "answer", answer, nil
}

// failed classifies an error by where it happened and by what was said.
func (t try) failed(stage string, err error, c content) try {
	t.stage, t.outcome = stage, deferred
	var reply *textproto.Error
	var certificate *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &reply):
		t.code, t.answer = reply.Code, reply.Msg
		// Only a refusal of this recipient or this content is about the
		// message. A 5xx to anything else is a relay in trouble or wrongly set
		// up: another one, or another day, may do better.
		if reply.Code >= 500 && reply.Code < 600 && (stage == "recipient" || stage == "data" || stage == "answer") {
			t.outcome = refused
		}
		// A reply that is no reply to DATA leaves open what the relay did.
		if stage == "answer" && (reply.Code < 400 || reply.Code >= 600) {
			t.outcome = doubtful
		}
	case stage == "answer":
		t.outcome, t.answer = doubtful, "The connection was lost before the relay confirmed: it may have taken the message."
	case errors.As(err, &certificate), errors.As(err, &unknown):
		t.answer = "The relay's certificate is not trusted: " + err.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		t.answer = "The relay did not answer in time."
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		t.answer = "The relay closed the connection."
	default:
		t.answer = err.Error()
	}
	if errors.Is(err, errNoUnicode) {
		t.outcome = refused
	}
	t.answer = clean(t.answer, c)
	return t
}

// clean makes a relay's words safe to keep: one line, printable, bounded, and
// without the addresses that relays like to repeat.
func clean(answer string, c content) string {
	for _, a := range []string{c.To.Email, c.To.Name} {
		if len(a) > 2 {
			answer = replaceFold(answer, a, "<recipient>")
		}
	}
	answer = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) || forbidden(r) {
			return ' '
		}
		return r
	}, answer)
	words := strings.Fields(answer)
	for i, w := range words {
		if strings.Contains(w, "@") { // an alias that the relay resolved
			words[i] = "<address>"
		}
	}
	answer = strings.Join(words, " ")
	for len(answer) > maxAnswer {
		_, size := utf8.DecodeLastRuneInString(answer)
		answer = answer[:len(answer)-size]
	}
	return answer
}

// replaceFold replaces every occurrence, whatever its case.
func replaceFold(s, old, with string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if len(s)-i >= len(old) && strings.EqualFold(s[i:i+len(old)], old) {
			b.WriteString(with)
			i += len(old)
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// String says how an attempt ended, for logs: no address in it.
func (t try) String() string {
	return fmt.Sprintf("%s at %s (%s %d)", t.outcome, t.relay, t.stage, t.code)
}
