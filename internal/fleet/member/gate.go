package member

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// openToAll is what a node that does not vote may ask of a member: values,
// watches, leases, and who is there. Membership, snapshots and alarms are for
// members.
var openToAll = []string{
	"/etcdserverpb.KV/", "/etcdserverpb.Watch/", "/etcdserverpb.Lease/",
	"/etcdserverpb.Cluster/MemberList", "/etcdserverpb.Maintenance/Status", "/grpc.health.v1.Health/",
}

// admit decides on one call by the certificate of its connection, each time
// anew: a connection that was open when its node was removed is of no use to it.
func (m *Member) admit(ctx context.Context, method string) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.PermissionDenied, "foundry: no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return status.Error(codes.PermissionDenied, "foundry: no certificate")
	}
	if m.tls.verify(info.State) != nil {
		return status.Error(codes.PermissionDenied, "foundry: "+errRevoked.Detail)
	}
	leaf := info.State.PeerCertificates[0]
	if m.clock().After(leaf.NotAfter) {
		return status.Error(codes.PermissionDenied, "foundry: the certificate of this node has run out")
	}
	if slices.Contains(leaf.DNSNames, memberName) || slices.ContainsFunc(openToAll, func(p string) bool { return strings.HasPrefix(method, p) }) {
		return nil
	}
	return status.Error(codes.PermissionDenied, "foundry: only members may do this")
}

func (m *Member) gateUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := m.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (m *Member) gateStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := m.admit(s.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, gatedStream{s, m, info.FullMethod})
}

// gatedStream asks again for every message: a watch may last for months.
type gatedStream struct {
	grpc.ServerStream
	m      *Member
	method string
}

func (g gatedStream) SendMsg(v any) error {
	if err := g.m.admit(g.Context(), g.method); err != nil {
		return err
	}
	return g.ServerStream.SendMsg(v)
}

func (g gatedStream) RecvMsg(v any) error {
	if err := g.m.admit(g.Context(), g.method); err != nil {
		return err
	}
	return g.ServerStream.RecvMsg(v)
}
