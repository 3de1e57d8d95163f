package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/config"
)

// A webhook's message is signed as in the Standard Webhooks specification
// (https://www.standardwebhooks.com, version 1.0.0): HMAC-SHA256 over
// "id.timestamp.body", in base64, behind "v1,". The id is the same for every
// attempt, the timestamp is the attempt's own.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
	secretPrefix    = "whsec_"
	minSecret       = 24
	maxSecret       = 64
	defaultHookTime = 15 * time.Second
)

// keys are the secrets that sign, the newest first.
func (h Webhook) keys(field string) (out [][]byte, err error) {
	for name, s := range map[string]config.Secret{"secret": h.Secret, "previous": h.Previous} {
		if !s.Set() {
			if name == "secret" {
				return nil, bad("webhook-secret", "The webhook has no secret to sign with.", field+".secret").WithMend("Make one: printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\" into a file of mode 0600.")
			}
			continue
		}
		text, err := s.Read(field + "." + name)
		if err != nil {
			return nil, err
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, secretPrefix))
		if err != nil || !strings.HasPrefix(text, secretPrefix) || len(key) < minSecret || len(key) > maxSecret {
			return nil, bad("webhook-secret", "The file does not hold whsec_ and 24 to 64 bytes in base64.", field+"."+name)
		}
		if name == "secret" {
			out = append([][]byte{key}, out...)
		} else {
			out = append(out, key)
		}
	}
	return out, nil
}

func (h Webhook) roots(field string) (*x509.CertPool, error) {
	if h.CA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(h.CA)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		return nil, bad("webhook-ca", "The file does not hold a certificate in PEM form.", field+".ca").Wrap(err)
	}
	return pool, nil
}

// sign gives the signature of one attempt.
func sign(keys [][]byte, id string, at time.Time, body []byte) string {
	var out []string
	for _, k := range keys {
		m := hmac.New(sha256.New, k)
		fmt.Fprintf(m, "%s.%d.", id, at.Unix())
		m.Write(body)
		out = append(out, "v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
	}
	return strings.Join(out, " ")
}

// errNotThere is an address that a webhook may not be at.
var errNotThere = errors.New("the receiver's address is private, and the configuration does not name its network")

// special are addresses that are not public beside those that netip knows (IANA
// special-purpose registries, RFC 6890): an address that embeds another could
// otherwise carry a private one.
var special = func() (out []netip.Prefix) {
	for _, s := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "fec0::/10"} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

// allowed reports whether a connection to an address may be made. It is asked
// with the address that is connected to, after the name was resolved: what a
// name resolves to changes.
func (h Webhook) allowed(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range h.Networks {
		if p, err := netip.ParsePrefix(n); err == nil && p.Contains(a) {
			return true
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// client connects to where the receiver may be, and nowhere else: through no
// proxy, after no redirect, once for each message.
func (h Webhook) client() (*http.Client, error) {
	roots, err := h.roots("notify.webhooks")
	if err != nil {
		return nil, err
	}
	oldest := uint16(tls.VersionTLS13)
	if h.TLS == "1.2" {
		oldest = tls.VersionTLS12
	}
	dialer := &net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !h.allowed(ap.Addr()) {
			return errNotThere
		}
		return nil
	}}
	return &http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: oldest, RootCAs: roots}, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func (h Webhook) timeout() time.Duration { return h.Timeout.Or(defaultHookTime) }

// deliver makes one attempt. What the receiver says is not kept beyond its
// status: it could repeat what was sent.
func (h Webhook) deliver(ctx context.Context, id string, at time.Time, body []byte) try {
	t := try{relay: hookChannel + h.Name, stage: "connect", outcome: deferred}
	keys, err := h.keys("notify.webhooks")
	if err != nil {
		t.answer = "The secret cannot be read."
		return t
	}
	client, err := h.client()
	if err != nil {
		t.answer = "The authority's certificate cannot be read."
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout())
	defer cancel()
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		t.answer = "The address is not one."
		return t
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Foundry")
	req.Header.Set(headerID, id)
	req.Header.Set(headerTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(headerSignature, sign(keys, id, at, body))
	res, err := client.Do(req)
	if err != nil {
		return t.lost(err, sent.Load())
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 16<<10))
	return t.answered(res.StatusCode)
}

// lost is an attempt without an answer.
func (t try) lost(err error, sent bool) try {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errNotThere):
		t.answer = "The receiver's address is private or special, and notify.webhooks.networks does not name it: nothing was sent."
	case sent:
		t.stage, t.outcome, t.answer = "answer", doubtful, "The connection was lost before the receiver answered: it may have taken the message."
	case errors.As(err, &certificate):
		t.stage, t.answer = "tls", "The receiver's certificate is not trusted."
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		t.answer = "The receiver did not answer in time."
	default:
		var op *net.OpError
		t.answer = "The receiver cannot be reached."
		if errors.As(err, &op) && op.Op != "dial" {
			t.stage, t.answer = "tls", "The receiver does not speak TLS as it is asked for (1.3, unless the configuration says otherwise)."
		}
	}
	return t
}

// answered is what a status means. Only one that speaks about this message ends
// it: a wrong address or a broken receiver can be mended while the message
// still is of use.
func (t try) answered(status int) try {
	t.stage, t.code = "answer", status
	switch {
	case status >= 200 && status < 300:
		t.outcome, t.answer = accepted, http.StatusText(status)
	case status == http.StatusBadRequest, status == http.StatusGone, status == http.StatusRequestEntityTooLarge, status == http.StatusUnsupportedMediaType, status == http.StatusUnprocessableEntity:
		t.outcome, t.answer = refused, "The receiver refuses the message: "+http.StatusText(status)+"."
	case status >= 300 && status < 400:
		t.answer = "The receiver sends elsewhere, and redirects are not followed: put the new address into the configuration."
	default:
		t.answer = "The receiver answered: " + http.StatusText(status) + "."
	}
	return t
}

// payload is what a webhook's message holds (Standard Webhooks: type, timestamp,
// data).
func payload(t Template, written time.Time, id string, words text, fields map[string]string) (json.RawMessage, error) {
	data := map[string]any{"id": id, "subject": words.Subject, "text": words.Text}
	for k, v := range fields {
		data[k] = v
	}
	return json.Marshal(map[string]any{"type": "foundry." + string(t), "timestamp": written.Format(time.RFC3339), "data": data})
}
