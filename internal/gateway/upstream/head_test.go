package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func parseAll(s string) (*head, error) {
	end, err := headEnd([]byte(s), 0)
	if err != nil {
		return nil, err
	}
	if end != len(s) {
		return nil, fmt.Errorf("the head ends at %d of %d", end, len(s))
	}
	h := new(head)
	return h, h.parse([]byte(s))
}

func TestHeadsThatAreAccepted(t *testing.T) {
	for _, tt := range []struct {
		name, head string
		want       head
	}{
		{"the least", "HTTP/1.1 200\r\n\r\n", head{status: 200, minor: 1, contentLength: -1}},
		{"an empty reason", "HTTP/1.1 200 \r\n\r\n", head{status: 200, minor: 1, contentLength: -1}},
		{"a reason beyond ASCII", "HTTP/1.1 200 Fran\xe7ais\r\n\r\n", head{status: 200, minor: 1, contentLength: -1}},
		{"a vendor's own status", "HTTP/1.1 529 Overloaded\r\n\r\n", head{status: 529, minor: 1, contentLength: -1}},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", head{status: 200, contentLength: -1}},
		{"the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 05\r\n\r\n", head{status: 200, minor: 1, contentLength: 5}},
		{"chunks, whatever the case", "HTTP/1.1 200 OK\r\nTRANSFER-encoding:\t Chunked \r\n\r\n", head{status: 200, minor: 1, contentLength: -1, chunked: true}},
		{"an empty value", "HTTP/1.1 200 OK\r\nX:\r\n\r\n", head{status: 200, minor: 1, contentLength: -1}},
		{"connection tokens over two fields", "HTTP/1.1 200 OK\r\nConnection: ,x\r\nConnection: keep-alive , close\r\n\r\n", head{status: 200, minor: 1, contentLength: -1, close: true, keepAlive: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := parseAll(tt.head)
			if err != nil {
				t.Fatal(err)
			}
			h.fields = nil
			if fmt.Sprint(*h) != fmt.Sprint(tt.want) {
				t.Errorf("got %+v, want %+v", *h, tt.want)
			}
		})
	}
}

func TestHeadsThatAreRefused(t *testing.T) {
	for name, s := range map[string]string{
		"a folded line":                   "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
		"a first line that is folded":     "HTTP/1.1 200 OK\r\n X: a\r\n\r\n",
		"a space before the colon":        "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
		"no name":                         "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
		"no colon":                        "HTTP/1.1 200 OK\r\nabc\r\n\r\n",
		"NUL in a value":                  "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
		"a bare CR in a value":            "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
		"a bare LF after a value":         "HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n",
		"a bare LF after the status line": "HTTP/1.1 200 OK\nY: b\r\n\r\n",
		"NUL in the reason":               "HTTP/1.1 200 O\x00K\r\n\r\n",
		"a name beyond ASCII":             "HTTP/1.1 200 OK\r\nContent-\u212aey: 5\r\n\r\n",
		"two lengths":                     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"a list of lengths":               "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
		"a signed length":                 "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
		"a negative length":               "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
		"a hexadecimal length":            "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
		"an empty length":                 "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
		"a length beyond int64":           "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"length and chunks":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
		"another transfer coding":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"two transfer codings":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"chunks twice":                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"identity":                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
		"a vertical tab around chunked":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
		"chunks in HTTP/1.0":              "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.2":                        "HTTP/1.2 200 OK\r\n\r\n",
		"a status of two digits":          "HTTP/1.1 20 OK\r\n\r\n",
		"a status of four digits":         "HTTP/1.1 2000 OK\r\n\r\n",
		"a status below 100":              "HTTP/1.1 099 OK\r\n\r\n",
		"a status that is no number":      "HTTP/1.1 2x0 OK\r\n\r\n",
		"two spaces before the status":    "HTTP/1.1  200 OK\r\n\r\n",
		"an empty line before the status": "\r\nHTTP/1.1 200 OK\r\n\r\n",
		"lower case":                      "http/1.1 200 OK\r\n\r\n",
		"too many fields":                 "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxFields+1) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseAll(s)
			var bad malformed
			if !errors.As(err, &bad) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestChunksHoweverTheyAreCut(t *testing.T) {
	const whole = "5\r\nhello\r\n6 ; a=\"b c\"\r\n world\r\n00\r\nA: b\r\nB:\t\r\n\r\n"
	for src := 1; src <= len(whole); src++ {
		for dst := 1; dst <= 12; dst++ {
			var d chunked
			got, err := drain(&d, []byte(whole+"rest"), src, dst)
			if got != "hello world" || err != nil || !d.done() {
				t.Fatalf("%d bytes in, %d out: %q, %v", src, dst, got, err)
			}
		}
	}
	for n := range len(whole) {
		var d chunked
		if _, err := drain(&d, []byte(whole[:n]), n+1, 5); err != io.ErrUnexpectedEOF {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
}

// drain decodes b, handing over at most src bytes at a time, taking at most dst.
func drain(d *chunked, b []byte, src, dst int) (string, error) {
	var out bytes.Buffer
	buf := make([]byte, dst)
	for {
		n, used, err := d.decode(buf, b[:min(src, len(b))])
		out.Write(buf[:n])
		b = b[used:]
		switch {
		case err != nil || d.done():
			return out.String(), err
		case len(b) == 0:
			return out.String(), io.ErrUnexpectedEOF
		}
	}
}

func TestChunksThatAreRefused(t *testing.T) {
	for name, s := range map[string]string{
		"no size":                       "\r\n",
		"no size but an extension":      ";a\r\n",
		"a signed size":                 "+5\r\nhello\r\n",
		"a prefix":                      "0x5\r\nhello\r\n",
		"a space before the size":       " 5\r\nhello\r\n",
		"a space within the size":       "1 0\r\n",
		"an underscore":                 "1_0\r\n",
		"a bare LF after the size":      "5\nhello\r\n",
		"a bare CR after the size":      "5\rhello\r\n",
		"a bare LF in an extension":     "5;a\nhello\r\n",
		"NUL in an extension":           "5;a\x00\r\nhello\r\n",
		"no CRLF after the data":        "5\r\nhello5\r\n",
		"a bare LF after the data":      "5\r\nhello\n0\r\n\r\n",
		"a size that is too large":      "1000000000000000\r\n",
		"too many noughts":              "0000000000000000\r\n\r\n",
		"an endless extension":          "5;" + strings.Repeat("a", maxChunkLine+1),
		"endless spaces":                "5" + strings.Repeat(" ", maxChunkLine+1),
		"a folded trailer":              "0\r\n a: b\r\n\r\n",
		"a trailer without a name":      "0\r\n: b\r\n\r\n",
		"a trailer without a colon":     "0\r\nab\r\n\r\n",
		"a bare LF in the trailer":      "0\r\na: b\n\r\n",
		"a bare LF at the end":          "0\r\n\n",
		"a control byte in the trailer": "0\r\na: \x01\r\n\r\n",
		"an endless trailer":            "0\r\n" + strings.Repeat("a: b\r\n", maxTrailer/6+1),
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{1, len(s)} {
				_, err := drain(new(chunked), []byte(s), step, 100)
				var bad malformed
				if !errors.As(err, &bad) {
					t.Errorf("in steps of %d: %v", step, err)
				}
			}
		})
	}
}
