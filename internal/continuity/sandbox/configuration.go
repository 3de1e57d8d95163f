package sandbox

import (
	"fmt"
	"strings"
)

// configuration is a node's own, as an operator would write it.
func (l *Lab) configuration(n *node) string {
	var b strings.Builder
	at := n.address()
	fmt.Fprintf(&b, "data_dir: %s\nnode: {country: FI}\n", n.data())
	fmt.Fprintf(&b, "fleet:\n  name: %s\n  listen: {peers: %q, clients: %q, join: %q}\n", n.name, at+":8490", at+":8491", at+":8492")
	if !n.has("gateway") {
		return b.String()
	}
	fmt.Fprintf(&b, "listen: {https: %q, http: \"off\"}\n", n.https())
	fmt.Fprintf(&b, `providers:
  - name: vendor
    kind: openai
    base_url: http://%s
    own: false
    discover: false
    controller: FR
    processing: [FR]
    no_sub_processors: true
    retention: {days: 0, contract: DPA-1, signed: 2026-01-02, expires: 2033-12-31}
    models: [{name: simulator-chat, context: 100000, max_output: 100000, price: {input: "0", output: "1"}}]
models:
  - {name: m, routes: [{provider: vendor, model: simulator-chat}]}
`, l.models.addr)
	return b.String()
}
