package upstream

const (
	maxChunkLine = 1024     // a chunk size with its extensions
	maxTrailer   = 16 << 10 // all trailer fields together
)

// chunked decodes the chunked transfer coding (RFC 9112 section 7.1), however
// the bytes are cut. Extensions and trailer fields are checked and dropped.
type chunked struct {
	state chunkState
	left  int64 // payload bytes left in this chunk
	count int   // digits of the size; bytes of the line; bytes of the trailer
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkSpace
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	trailerStart
	trailerName
	trailerValue
	trailerLF
	chunkEndLF
	chunkDone
)

func (d *chunked) done() bool { return d.state == chunkDone }

// decode consumes src and writes payload to dst until one of them is used up or
// the body has ended; it returns the bytes written and consumed. It goes on
// through framing when dst is full, so that the end is seen as soon as it is there.
func (d *chunked) decode(dst, src []byte) (written, consumed int, err error) {
	for consumed < len(src) && d.state != chunkDone {
		if d.state == chunkData {
			n := copy(dst[written:], src[consumed:min(len(src), consumed+int(min(d.left, int64(len(src)))))])
			if n == 0 {
				return written, consumed, nil
			}
			written, consumed = written+n, consumed+n
			d.took(n)
			continue
		}
		if err := d.step(src[consumed]); err != nil {
			return written, consumed, err
		}
		consumed++
	}
	return written, consumed, nil
}

// took notes n payload bytes of the current chunk as delivered.
func (d *chunked) took(n int) {
	if d.left -= int64(n); d.left == 0 {
		d.state = chunkDataCR
	}
}

// step consumes one byte of framing.
func (d *chunked) step(c byte) error {
	switch d.state {
	case chunkSize:
		return d.size(c)
	case chunkSpace, chunkExtension:
		return d.extension(c)
	case chunkSizeLF:
		if c != '\n' {
			return malformed("a chunk size line does not end in CRLF")
		}
		d.count = 0
		if d.state = chunkData; d.left == 0 {
			d.state = trailerStart
		}
	case chunkDataCR, chunkDataLF:
		if c != "\r\n"[d.state-chunkDataCR] {
			return malformed("a chunk is longer than its size")
		}
		if d.state++; c == '\n' {
			d.state = chunkSize
		}
	default:
		return d.trailer(c)
	}
	return nil
}

func (d *chunked) size(c byte) error {
	digit, ok := hexDigit(c)
	if ok {
		// 15 digits stay below 2^60: nothing overflows.
		if d.count++; d.count > 15 {
			return malformed("a chunk size is too large")
		}
		d.left = d.left<<4 | digit
		return nil
	}
	if d.count == 0 {
		return malformed("a chunk size is missing")
	}
	switch c {
	case '\r':
		d.state = chunkSizeLF
	case ';':
		d.state = chunkExtension
	case ' ', '\t': // some servers pad the size
		d.state = chunkSpace
	default:
		return malformed("a chunk size is malformed")
	}
	return nil
}

func (d *chunked) extension(c byte) error {
	if d.count++; d.count > maxChunkLine {
		return malformed("a chunk extension is too long")
	}
	switch {
	case c == '\r':
		d.state = chunkSizeLF
	case d.state == chunkExtension && fieldByte(c), c == ' ' || c == '\t':
	case c == ';':
		d.state = chunkExtension
	default:
		return malformed("a chunk size is malformed")
	}
	return nil
}

func (d *chunked) trailer(c byte) error {
	if d.count++; d.count > maxTrailer {
		return malformed("the trailer is too long")
	}
	next := d.state
	switch {
	case d.state == trailerStart && c == '\r':
		next = chunkEndLF
	case (d.state == trailerStart || d.state == trailerName) && isToken[c]:
		next = trailerName
	case d.state == trailerName && c == ':':
		next = trailerValue
	case d.state == trailerValue && c == '\r':
		next = trailerLF
	case d.state == trailerValue && fieldByte(c):
	case d.state == trailerLF && c == '\n':
		next = trailerStart
	case d.state == chunkEndLF && c == '\n':
		next = chunkDone
	default:
		return malformed("the trailer is malformed")
	}
	d.state = next
	return nil
}

func hexDigit(c byte) (int64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0'), true
	case c >= 'a' && c <= 'f':
		return int64(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return int64(c-'A') + 10, true
	}
	return 0, false
}
