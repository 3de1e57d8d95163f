package daemon

import (
	"net/http/httptest"
	"testing"
)

func TestBehindAProxyTheClientIsWhoTheProxySaw(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"one address", []string{"192.0.2.7"}, "192.0.2.7:0"},
		{"the proxy's is the last", []string{"10.0.0.1, 192.0.2.7"}, "192.0.2.7:0"},
		{"of several lines the last", []string{"10.0.0.1", "192.0.2.7"}, "192.0.2.7:0"},
		{"IPv6", []string{"2001:db8::1"}, "[2001:db8::1]:0"},
		{"IPv4 in IPv6 is IPv4", []string{"::ffff:192.0.2.7"}, "192.0.2.7:0"},
		{"a zone means nothing here", []string{"fe80::1%eth0"}, "[fe80::1]:0"},
		{"no header: nobody is known", nil, ""},
		{"rubbish: nobody is known, least of all the proxy", []string{"unknown"}, ""},
		{"an invented first address does not count", []string{"127.0.0.1, rubbish"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/console/", nil)
			for _, h := range c.headers {
				r.Header.Add("X-Forwarded-For", h)
			}
			forwarded(r)
			if r.RemoteAddr != c.want {
				t.Errorf("got %q, want %q", r.RemoteAddr, c.want)
			}
		})
	}
}
