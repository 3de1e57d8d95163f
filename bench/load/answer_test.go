//go:build linux

package load

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const hello = "hello world"

func fixed(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func chunked(pieces ...string) string {
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
	for _, p := range pieces {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(p), p)
	}
	return b.String() + "0\r\n\r\n"
}

func TestAnswersAreReadWholeHoweverTheyAreCut(t *testing.T) {
	for name, text := range map[string]string{"length": fixed(hello), "chunks": chunked("hello", " ", "world"), "one chunk": chunked(hello)} {
		rapid.Check(t, func(t *rapid.T) {
			var a answer
			a.reset([]byte(hello))
			for rest := text; rest != ""; {
				if a.state == complete {
					t.Fatalf("%s: complete with %q to come", name, rest)
				}
				n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
				if err := a.feed([]byte(rest[:n])); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				rest = rest[n:]
			}
			if a.state != complete || a.pos != len(hello) {
				t.Fatalf("%s: state %d after %d bytes", name, a.state, a.pos)
			}
		})
	}
}

func TestWhatIsNotTheExpectedAnswerIsBroken(t *testing.T) {
	for _, c := range []struct{ name, text, kind string }{
		{"another status", "HTTP/1.1 503 Service Unavailable\r\n", "not 200"},
		{"another protocol", "SSH-2.0-OpenSSH\r\n", "not 200"},
		{"another byte", fixed("hello World"), "wrong body"},
		{"a byte more", fixed(hello + "!"), "wrong body"},
		{"a byte less", fixed("hello worl"), "body too short"},
		{"a chunk less", chunked("hello", " "), "body too short"},
		{"no length", "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", "no body"},
		{"a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: many\r\n", "bad length"},
		{"a chunk size that is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad chunk"},
		{"a chunk longer than it says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", "bad chunk"},
		{"more than one answer", fixed(hello) + "HTTP", "bytes after the answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a answer
			a.reset([]byte(hello))
			err := a.feed([]byte(c.text))
			var w *wrong
			if !errors.As(err, &w) || w.kind != c.kind {
				t.Fatalf("got %v, want %s", err, c.kind)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(fixed(hello)), 3)
	f.Add([]byte(chunked("hello", " world")), 40)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		var a answer
		a.reset([]byte(hello))
		cut = max(0, min(cut, len(text)))
		if a.feed(text[:cut]) == nil {
			_ = a.feed(text[cut:])
		}
		if a.state == complete && a.pos != len(hello) {
			t.Fatalf("complete after %d bytes", a.pos)
		}
	})
}
