package api

import (
	"context"
	"net/http"

	"github.com/missionopsai/foundry/internal/continuity/patroni"
)

// PatroniNode is what a node with Patroni is like.
type PatroniNode struct {
	Address  string   `json:"address" maxLength:"253" doc:"By which other nodes reach it."`
	Key      []byte   `json:"key" maxLength:"1024" doc:"Public half of an ECDSA key on P-256 (PKIX, DER). The private half stays on the node."`
	Dir      string   `json:"dir" maxLength:"400" doc:"Where its files will lie, from the root."`
	Data     string   `json:"data" maxLength:"400" doc:"Where PostgreSQL's data will lie, from the root."`
	Bin      string   `json:"bin,omitempty" maxLength:"400" doc:"Where PostgreSQL's programs are. Default: as found in PATH."`
	Socket   string   `json:"socket,omitempty" maxLength:"400" doc:"Directory of the socket. Default /var/run/postgresql."`
	Port     int      `json:"port,omitempty" doc:"Of PostgreSQL. Default 5432."`
	APIPort  int      `json:"api_port,omitempty" doc:"Of the REST API. Default 8008."`
	Networks []string `json:"networks,omitempty" maxItems:"50" doc:"From where others may sign in, by password and TLS 1.3. Default everywhere."`
}

type configurePatroni struct {
	Caller
	Node string `path:"node" maxLength:"40"`
	Body PatroniNode
}

type onePatroni struct {
	Caller
	Node string `path:"node" maxLength:"40"`
}

// patroni registers what is done with a database that Patroni keeps.
func (a *API) patroni() {
	register(a, http.MethodGet, "/database/patroni", "patroni-status", "Show the cluster of the database: who leads, who has everything, which promises it keeps", func(ctx context.Context, in *struct{ Caller }) (patroni.Status, error) {
		return a.Patroni.Status(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/database/patroni/nodes/{node}", "patroni-configure", "Make the configuration of Patroni on a node, with its passwords, and a certificate for its key", func(ctx context.Context, in *configurePatroni) (patroni.Configured, error) {
		b := in.Body
		return a.Patroni.Configure(ctx, in.Principal, patroni.Wanted{Key: b.Key, Node: patroni.Node{Name: in.Node, Address: b.Address, Port: b.Port, APIPort: b.APIPort, Dir: b.Dir, Data: b.Data, Bin: b.Bin, Socket: b.Socket, Networks: b.Networks}})
	})
	register(a, http.MethodPut, "/database/patroni/strict", "patroni-enforce", "Have every member acknowledge nothing that a standby lacks, and go on without the store", func(ctx context.Context, in *struct{ Caller }) (patroni.Status, error) {
		return a.Patroni.Enforce(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/database/patroni/nodes/{node}/reinitialise", "patroni-reinitialise", "Have a member throw its data away and copy the leader's", func(ctx context.Context, in *onePatroni) (struct{}, error) {
		return struct{}{}, a.Patroni.Reinitialise(ctx, in.Principal, in.Node)
	})
}
