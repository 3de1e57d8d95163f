package target

import (
	"strings"
	"testing"
)

func FuzzS3Answers(f *testing.F) {
	f.Add([]byte(`<Error><Code>NoSuchKey</Code><Message>x</Message></Error>`))
	f.Add([]byte(`<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents><Key>a/b</Key><Size>3</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>`))
	f.Add([]byte(`<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>3</Days></DefaultRetention></Rule></ObjectLockConfiguration>`))
	f.Add([]byte(`<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`))
	f.Add([]byte(`<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><Version><Key>a</Key><VersionId>v</VersionId><IsLatest>false</IsLatest><Size>3</Size></Version><DeleteMarker><Key>a</Key></DeleteMarker></ListVersionsResult>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if v, err := parseVersions(text); err == nil && v.Truncated && v.NextKey == "" {
			t.Error("a list of versions that goes on nowhere")
		}
		if e := parseS3Error(text); len(e.Code) > 64 {
			t.Errorf("%d characters of a code", len(e.Code))
		}
		if l, err := parseListing(text); err == nil && l.IsTruncated && l.Next == "" {
			t.Error("a list that goes on nowhere")
		}
		if l, err := parseObjectLock(text); err == nil && (l.Days < 0 || l.Years < 0) {
			t.Errorf("%+v", l)
		}
		_, _ = parseVersioning(text)
	})
}

// Whatever a person wrote reaches ssh as one value, or not at all.
func FuzzSSHConfig(f *testing.F) {
	f.Add("example.org", "backup", "/run/key", "/run/known hosts")
	f.Add("-oProxyCommand=id", "a b", "/run/\"key", "/x\nProxyCommand id")
	f.Add("%h", "$(id)", "~/key", "/a%d")
	f.Fuzz(func(t *testing.T, host, user, key, known string) {
		text, err := SSHClient{Host: host, User: user, KeyFile: key, KnownHosts: known}.Config()
		if err != nil {
			return
		}
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(lines) != 27 || lines[1] != "HostName "+host || lines[3] != "User "+user || strings.ContainsAny(host+user, " \t\"%$") || strings.ContainsAny(key+known, "\"%\n") {
			t.Errorf("%d lines: %q", len(lines), text)
		}
	})
}
