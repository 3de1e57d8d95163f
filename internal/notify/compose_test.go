package notify

import (
	"bytes"
	"encoding/base64"
	"html"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/problem"
)

var hrefs = regexp.MustCompile(`(?i)(?:href|src|action)\s*=\s*"([^"]*)"`)

// Whatever stands in a message's fields, what goes over the wire is one
// message to one person, with the headers it should have, two parts, and
// nothing to click on but its own link.
func FuzzAnyMessageIsComposedSafely(f *testing.F) {
	f.Add(0, "en", "Grace", "grace@example.org", "st-mary", "https://ai.example.eu/invitation#fdi_abc")
	f.Add(4, "de", "", "ü@ü.de", "https://evil.example/x", "a\nb: https://evil.example")
	f.Add(3, "en", `"x" <y>`, "a@b.eu", "=?utf-8?q?=0D=0ABcc:_x?=", "<a href=\"https://evil.example\">")
	f.Add(2, "xx", "\\", "a@b.eu", "\u202ex", "javascript:alert(1)")
	f.Add(5, "en", "", "a@b.eu。", "x", "x")
	f.Add(5, "en", "", "a@b.eu", "https://evil.example/x", "x") // an alarm's facts stand in a paragraph of their own
	b := outbox(f)
	headers := []string{"Auto-Submitted", "Content-Language", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To", "X-Auto-Response-Suppress"}
	f.Fuzz(func(t *testing.T, which int, locale, name, email, field, other string) {
		m := Message{Organisation: uuid.Nil, Template: Templates()[uint(which)%uint(len(Templates()))], To: Address{Name: name, Email: email}, Locale: locale, Fields: map[string]string{}}
		for i, want := range kinds[m.Template].fields {
			m.Fields[want] = []string{field, other}[i%2]
			if want == "link" {
				m.Fields[want] = other
			}
		}
		r, err := b.render(m)
		if err != nil {
			if problem.From(err).Kind != problem.Invalid {
				t.Fatal(err)
			}
			return
		}
		raw, err := compose(r.messageID, r.body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := mail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		for header, values := range got.Header {
			if !slices.Contains(headers, header) || len(values) != 1 {
				t.Errorf("header %s: %q", header, values)
			}
		}
		if to, err := got.Header.AddressList("To"); err != nil || len(to) != 1 || to[0].Address != r.body.To.Email {
			t.Errorf("to %v %v", to, err)
		}
		parts := readParts(t, got)
		if len(parts) != 2 || strings.ReplaceAll(parts[0], "\r\n", "\n") != r.body.Text {
			t.Fatalf("%d parts, %q, want %q", len(parts), parts, r.body.Text)
		}
		for _, found := range hrefs.FindAllStringSubmatch(parts[1], -1) {
			got, _ := url.PathUnescape(html.UnescapeString(found[1])) // html/template may escape more than was
			if want, _ := url.PathUnescape(m.Fields["link"]); got != want || want == "" {
				t.Errorf("something else to click on: %q", found[1])
			}
		}
	})
}

func readParts(t *testing.T, m *mail.Message) (out []string) {
	t.Helper()
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = p
		switch strings.ToLower(p.Header.Get("Content-Transfer-Encoding")) {
		case "quoted-printable":
			body = quotedprintable.NewReader(p)
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, p)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
}

// Whatever is asked for, an address is not kept for longer than the guide says.
func TestNoMessageIsKeptForLongerThanAWeek(t *testing.T) {
	b := outbox(t)
	for _, k := range Templates() {
		if kinds[k].expires > LongestLife {
			t.Errorf("%s is kept for %s", k, kinds[k].expires)
		}
	}
	m := invitation(uuid.Nil, "grace@example.org")
	m.Expires = 400 * 24 * time.Hour
	r, err := b.render(m)
	if err != nil {
		t.Fatal(err)
	}
	if kept := time.Until(r.expires); kept > LongestLife {
		t.Errorf("it is kept for %s", kept)
	}
}
