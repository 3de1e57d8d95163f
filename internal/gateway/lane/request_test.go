package lane

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
	"pgregory.net/rapid"
)

const simple = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8443\r\nAuthorization: Bearer fdy_x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"

func parse(b []byte) (*http.Request, head, verdict) {
	r := &http.Request{Header: http.Header{"Left": {"over"}}, Host: "left.over"}
	u := new(url.URL)
	r.URL = u
	h, v := plain(b, 0, r, u, new([maxFields]string))
	return r, h, v
}

// agrees checks one message: what the lane takes, net/http reads likewise.
func agrees(t interface {
	Helper()
	Fatalf(string, ...any)
}, message []byte) verdict {
	t.Helper()
	r, h, v := parse(message)
	if v != whole {
		return v
	}
	buffered := bufio.NewReaderSize(bytes.NewReader(message), len(message)+16)
	want, err := http.ReadRequest(buffered)
	if err != nil {
		t.Fatalf("the lane takes %q, net/http says %v", message, err)
	}
	if left := buffered.Buffered(); left != len(message)-h.size {
		t.Fatalf("the head of %q is %d bytes here, and %d for net/http", message, h.size, len(message)-left)
	}
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"method", r.Method, want.Method}, {"URL", *r.URL, *want.URL}, {"URI", r.RequestURI, want.RequestURI}, {"protocol", "HTTP/1.1", want.Proto},
		{"host", r.Host, want.Host}, {"header", r.Header, want.Header}, {"length", r.ContentLength, want.ContentLength},
		{"close", r.Close, want.Close}, {"coding", 0, len(want.TransferEncoding)}, {"trailer", 0, len(want.Trailer)},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Fatalf("%s of %q is %#v here, and %#v for net/http", c.name, message, c.got, c.want)
		}
	}
	if !httpguts.ValidHostHeader(r.Host) {
		t.Fatalf("net/http's server refuses the host of %q", message)
	}
	for name, values := range r.Header {
		for _, value := range values {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
				t.Fatalf("net/http's server refuses the field %q: %q", name, value)
			}
		}
	}
	return v
}

func TestPlainRequestsAreTaken(t *testing.T) {
	for _, message := range []string{
		simple,
		simple + "{}",
		"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /v1/models/llama3:8b HTTP/1.1\r\nHost: [::1]:8443\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: fdy_x\r\nConnection: Keep-Alive\r\ncontent-length: 007\r\n\r\n",
		"POST /v1/messages HTTP/1.1\r\nHost:a\r\nX-Two:  1 \t\r\nX-two: 2\r\nX-Empty:\r\n\r\n",
		"POST /v1/ HTTP/1.1\r\nX-~!: \"tchar\"\r\nHost: \t a \r\n\r\n",
	} {
		if v := agrees(t, []byte(message)); v != whole {
			t.Errorf("%q was not taken", message)
		}
	}
}

// strange are messages that two readers might understand differently, or that
// change what the connection is.
var strange = map[string]string{
	"another method":              "PUT /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
	"lower case method":           "post /v1/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"another path":                "GET /console HTTP/1.1\r\nHost: a\r\n\r\n",
	"path alone":                  "GET /v1 HTTP/1.1\r\nHost: a\r\n\r\n",
	"absolute form":               "GET http://b/v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
	"query":                       "GET /v1/models?a=b HTTP/1.1\r\nHost: a\r\n\r\n",
	"escaped path":                "GET /v1/%6dodels HTTP/1.1\r\nHost: a\r\n\r\n",
	"HTTP/1.0":                    "POST /v1/x HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.2":                    "POST /v1/x HTTP/1.2\r\nHost: a\r\n\r\n",
	"two spaces":                  "POST  /v1/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"space at the end of line":    "POST /v1/x HTTP/1.1 \r\nHost: a\r\n\r\n",
	"empty line first":            "\r\nPOST /v1/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"no host":                     "POST /v1/x HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
	"empty host":                  "POST /v1/x HTTP/1.1\r\nHost:\r\n\r\n",
	"two hosts":                   "POST /v1/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"host with a user":            "POST /v1/x HTTP/1.1\r\nHost: a@b\r\n\r\n",
	"two lengths":                 "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
	"a list of lengths":           "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n{}",
	"signed length":               "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}",
	"empty length":                "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
	"hexadecimal length":          "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n{}",
	"huge length":                 "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999\r\n\r\n",
	"length of a GET":             "GET /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
	"chunked":                     "POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"both framings":               "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"another coding":              "POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
	"space before the colon":      "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length : 2\r\n\r\n{}",
	"folded line":                 "POST /v1/x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
	"name with a slash":           "POST /v1/x HTTP/1.1\r\nHost: a\r\nX/A: b\r\n\r\n",
	"empty name":                  "POST /v1/x HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
	"no colon":                    "POST /v1/x HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n",
	"NUL in a value":              "POST /v1/x HTTP/1.1\r\nHost: a\r\nX-A: \x00\r\n\r\n",
	"bare CR in a value":          "POST /v1/x HTTP/1.1\r\nHost: a\r\nX-A: b\rContent-Length: 5\r\n\r\n",
	"bare LF":                     "POST /v1/x HTTP/1.1\r\nHost: a\nContent-Length: 2\r\n\r\n{}",
	"bare LFs only":               "POST /v1/x HTTP/1.1\nHost: a\n\n",
	"high bytes":                  "POST /v1/x HTTP/1.1\r\nHost: a\r\nX-A: \xff\r\n\r\n",
	"expectation":                 "POST /v1/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
	"upgrade":                     "GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
	"connection with a list":      "GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close, x-api-key\r\n\r\n",
	"two connections":             "GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
	"trailer":                     "POST /v1/x HTTP/1.1\r\nHost: a\r\nTrailer: X-A\r\n\r\n",
	"pragma, which net/http sees": "GET /v1/x HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
	"HTTP/2":                      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"TLS":                         "\x16\x03\x01\x02\x00\x01",
	"too many fields":             "GET /v1/x HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: b\r\n", maxFields) + "\r\n",
}

func TestStrangeRequestsAreNetHTTPs(t *testing.T) {
	for name, message := range strange {
		if _, _, v := parse([]byte(message)); v != odd {
			t.Errorf("%s: verdict %d on %q", name, v, message)
		}
	}
}

func TestAHeadIsPlainHoweverItIsCut(t *testing.T) {
	for at := range len(simple) {
		r := &http.Request{Header: http.Header{}, URL: new(url.URL)}
		values := new([maxFields]string)
		if _, v := plain([]byte(simple[:at]), 0, r, r.URL, values); v != incomplete {
			t.Fatalf("verdict %d after %d bytes", v, at)
		}
		if h, v := plain([]byte(simple+"{}"), at, r, r.URL, values); v != whole || h.size != len(simple) || h.length != 2 {
			t.Fatalf("verdict %d, %+v when the rest came after %d bytes", v, h, at)
		}
	}
}

func TestWhatIsTakenIsReadAsByNetHTTP(t *testing.T) {
	lines := []string{"Host: a\r\n", "host: b.example:1\r\n", "Content-Length: 3\r\n", "content-length: 3\r\n", "Content-Length: 3 \r\n", "Connection: close\r\n",
		"Connection: keep-alive\r\n", "Transfer-Encoding: chunked\r\n", "X-A: b\r\n", "x-a:c\r\n", "X-A:\t\r\n", "X_b: ,\r\n", "Pragma: no-cache\r\n",
		"Cache-Control: x\r\n", "Expect: x\r\n", " folded\r\n", "X-C: a\nb\r\n", "Te: trailers\r\n", "Cookie: a=b\r\n", "Host : a\r\n", "\r\n", "X-D: \x7f\r\n", "X-E: é\r\n"}
	starts := []string{"POST /v1/x HTTP/1.1\r\n", "GET /v1/models HTTP/1.1\r\n", "GET /v1//../x HTTP/1.1\r\n", "POST /v1/x HTTP/1.1\n", "GET /v1/x?y HTTP/1.1\r\n",
		"GET /v1/a:b~c HTTP/1.1\r\n", "GET /v1/x  HTTP/1.1\r\n", "POST /v1/x HTTP/1.10\r\n"}
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		message := rapid.SampledFrom(starts).Draw(t, "start") + strings.Join(rapid.SliceOfN(rapid.SampledFrom(lines), 0, 6).Draw(t, "lines"), "") + "\r\n{}\r"
		if agrees(t, []byte(message)) == whole {
			taken++
		}
	})
	if taken == 0 {
		t.Error("nothing was taken: the test shows nothing")
	}
}

func FuzzPlainRequests(f *testing.F) {
	f.Add([]byte(simple + "{}"))
	f.Add([]byte("GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"))
	for _, message := range strange {
		f.Add([]byte(message))
	}
	f.Fuzz(func(t *testing.T, message []byte) { agrees(t, message) })
}

// Two messages in a row: what the lane leaves of the first is what net/http
// leaves.
func FuzzTwoRequests(f *testing.F) {
	f.Add([]byte(simple+"{}"), []byte(simple))
	f.Add([]byte(strange["both framings"]), []byte(simple))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		message := append(bytes.Clone(one), two...)
		_, h, v := parse(message)
		if v != whole || int64(len(message)-h.size) < h.length {
			return
		}
		buffered := bufio.NewReader(bytes.NewReader(message))
		want, err := http.ReadRequest(buffered)
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", message, err)
		}
		body, err := io.ReadAll(want.Body)
		if err != nil || !bytes.Equal(body, message[h.size:h.size+int(h.length)]) {
			t.Fatalf("body %q, %v", body, err)
		}
		rest, _ := io.ReadAll(buffered)
		if !bytes.Equal(rest, message[h.size+int(h.length):]) {
			t.Fatalf("rest %q", rest)
		}
	})
}
