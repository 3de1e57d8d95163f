package evidence

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// textMagic keeps the signature of a text from meaning anything elsewhere.
const textMagic = "foundry text v1\n"

// textMark begins the line that closes a signed text.
const textMark = "-- signed with the evidence key "

// SignText returns the line that closes a text which people print and keep:
// the key's name, its public half and the signature.
func (s *Signer) SignText(text string) string {
	return textMark + s.id + " " + base64.StdEncoding.EncodeToString(s.Public()) + " " +
		base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, []byte(textMagic+text))) + "\n"
}

// VerifyText checks a text with its closing line, and returns the name of the
// key that signed it. It says nothing about who owns the key: compare the name
// with the one in the audit log.
func VerifyText(signed string) (text, signer string, err error) {
	at := strings.LastIndex(signed, textMark)
	if at < 0 || at > 0 && signed[at-1] != '\n' {
		return "", "", problem.New(problem.Invalid, "text-unsigned", "The text does not end with a signature.").WithMend("Take the whole file, with its last line.")
	}
	text = signed[:at]
	line, after, ended := strings.Cut(signed[at+len(textMark):], "\n")
	fields := strings.Fields(line)
	bad := problem.New(problem.Invalid, "text-changed", "The text is not what was signed.").WithMend("Treat it as forged, and look for another copy.")
	if len(fields) != 3 || !ended || after != "" {
		return "", "", bad
	}
	public, err1 := base64.StdEncoding.Strict().DecodeString(fields[1])
	signature, err2 := base64.StdEncoding.Strict().DecodeString(fields[2])
	if err1 != nil || err2 != nil || len(public) != ed25519.PublicKeySize || SignerID(public) != fields[0] || !ed25519.Verify(public, []byte(textMagic+text), signature) {
		return "", "", bad
	}
	return text, fields[0], nil
}
