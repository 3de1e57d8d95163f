package kit

import "strings"

// bech32 writes bytes as BIP-173 does, without its limit of 90 characters. Age
// writes its keys so, and takes one only as such text.
func bech32(human string, data []byte) string {
	const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	var values []byte
	var held, bits uint
	for _, b := range data {
		for held, bits = held<<8|uint(b), bits+8; bits >= 5; {
			bits -= 5
			values = append(values, byte(held>>bits&31))
		}
	}
	if bits > 0 {
		values = append(values, byte(held<<(5-bits)&31))
	}
	sum := uint32(1)
	feed := func(v byte) {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range [...]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			sum ^= -(top >> i & 1) & g
		}
	}
	for i := range len(human) {
		feed(human[i] >> 5)
	}
	feed(0)
	for i := range len(human) {
		feed(human[i] & 31)
	}
	var out strings.Builder
	out.WriteString(human + "1")
	for _, v := range values {
		feed(v)
		out.WriteByte(alphabet[v])
	}
	clear(values)
	for range 6 {
		feed(0)
	}
	sum ^= 1
	for i := range 6 {
		out.WriteByte(alphabet[sum>>(5*(5-i))&31])
	}
	return out.String()
}
