package schema

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Entry is one line of an archive's table of contents: an object with the SQL that creates it.
type Entry struct {
	ID       int    // number in this archive
	TableOID uint32 // oid of the catalog that holds the object; 0 when it has no row of its own
	OID      uint32 // oid in that catalog
	Tag      string // name, and for functions the argument types; "table name" for what belongs to a table
	Kind     string // pg_dump's description: TABLE, FK CONSTRAINT, …
	Schema   string // "" for what is in no schema
	Owner    string
	DDL      string // one or several statements
	Drop     string // DROP …;
	Method   string // table access method, "" when it has none
	RelKind  string // relkind of tables, since archive version 1.16
	Depends  []int  // numbers of entries that must exist before; they may be absent from the archive
}

func (e Entry) title() string {
	if e.Schema == "" {
		return e.Kind + " " + e.Tag
	}
	return e.Kind + " " + e.Schema + "." + e.Tag
}

// Archive is the head and the table of contents of a custom-format archive.
type Archive struct {
	Version       string // of the archive format, such as 1.14-0
	ServerVersion string
	DumpVersion   string
	Entries       []Entry // in the order that pg_restore would create them
}

// formatCustom is the byte that pg_dump -Fc writes.
const formatCustom = 1

// oldestMinor and newestMinor are the archive versions whose layout is known: 1.12 (PostgreSQL 9.0 to 10.2) to 1.16
// (17 and 18).
const (
	oldestMinor = 12
	newestMinor = 16
)

// entriesMax and textMax keep a damaged archive from asking for all memory.
const (
	entriesMax = 20_000_000
	textMax    = 1 << 30
)

// ReadArchive reads head and table of contents of a custom-format archive (pg_backup_archiver.c: ReadHead, ReadToc) and
// leaves the data that follow unread.
func ReadArchive(from io.Reader) (Archive, error) {
	r := &archiveReader{from: bufio.NewReaderSize(from, 1<<16)}
	archive := r.head()
	count := r.int()
	if r.err == nil && (count < 0 || count > entriesMax) {
		r.err = fmt.Errorf("%d entries", count)
	}
	for range count {
		if r.err != nil {
			break
		}
		archive.Entries = append(archive.Entries, r.entry())
	}
	if r.err != nil {
		return Archive{}, fmt.Errorf("read pg_dump archive: %w", r.err)
	}
	return archive, nil
}

// archiveReader reads primitives until the first error, which it keeps.
type archiveReader struct {
	from       *bufio.Reader
	minor      int
	intSize    int
	offsetSize int
	err        error
}

func (r *archiveReader) head() Archive {
	magic := make([]byte, 5)
	if _, r.err = io.ReadFull(r.from, magic); r.err != nil {
		return Archive{}
	}
	if string(magic) != "PGDMP" {
		r.err = errors.New("it does not begin with PGDMP")
		return Archive{}
	}
	major, minor, revision := r.byte(), r.byte(), r.byte()
	r.minor = minor
	r.intSize, r.offsetSize = r.byte(), r.byte()
	format := r.byte()
	switch {
	case r.err != nil:
		return Archive{}
	case major != 1 || minor < oldestMinor || minor > newestMinor:
		r.err = fmt.Errorf("archive version %d.%d is unknown: want 1.%d to 1.%d", major, minor, oldestMinor, newestMinor)
		return Archive{}
	case format != formatCustom || r.intSize < 1 || r.intSize > 8 || r.offsetSize < 1 || r.offsetSize > 8:
		r.err = fmt.Errorf("archive format %d with integers of %d bytes is unknown", format, r.intSize)
		return Archive{}
	}
	if r.minor >= 15 {
		r.byte() // compression algorithm
	} else {
		r.int() // compression level
	}
	for range 7 { // time of creation
		r.int()
	}
	r.text() // database
	return Archive{
		Version:       fmt.Sprintf("%d.%d-%d", major, minor, revision),
		ServerVersion: r.text(),
		DumpVersion:   r.text(),
	}
}

func (r *archiveReader) entry() Entry {
	var e Entry
	e.ID = r.int()
	r.int() // whether it has data
	e.TableOID, e.OID = r.oid(), r.oid()
	e.Tag, e.Kind = r.text(), r.text()
	r.int() // pg_dump's own section
	e.DDL, e.Drop = r.text(), r.text()
	r.text() // COPY statement
	e.Schema = r.text()
	r.text() // tablespace
	if r.minor >= 14 {
		e.Method = r.text()
	}
	if r.minor >= 16 {
		if kind := r.int(); kind > 0 && kind < 128 {
			e.RelKind = string(rune(kind))
		}
	}
	e.Owner = r.text()
	r.text() // with oids
	for {
		text, present := r.optionalText()
		if !present {
			break
		}
		id, err := strconv.Atoi(text)
		if err != nil && r.err == nil {
			r.err = fmt.Errorf("dependency %q of entry %d", text, e.ID)
		}
		e.Depends = append(e.Depends, id)
	}
	r.skip(1 + r.offsetSize) // where its data are
	return e
}

func (r *archiveReader) byte() int {
	if r.err != nil {
		return 0
	}
	b, err := r.from.ReadByte()
	r.fail(err)
	return int(b)
}

// int is a sign byte and the bytes of the absolute value, lowest first.
func (r *archiveReader) int() int {
	negative := r.byte() != 0
	var value uint64
	for i := range r.intSize {
		value |= uint64(r.byte()) << (8 * i)
	}
	if negative {
		return -int(value)
	}
	return int(value)
}

func (r *archiveReader) oid() uint32 {
	text := r.text()
	if r.err != nil {
		return 0
	}
	oid, err := strconv.ParseUint(text, 10, 32)
	r.fail(err)
	return uint32(oid)
}

// text takes an absent string for an empty one.
func (r *archiveReader) text() string {
	text, _ := r.optionalText()
	return text
}

func (r *archiveReader) optionalText() (string, bool) {
	length := r.int()
	if r.err != nil || length < 0 {
		return "", false
	}
	if length > textMax {
		r.err = fmt.Errorf("a text of %d bytes", length)
		return "", false
	}
	var text strings.Builder
	_, err := io.CopyN(&text, r.from, int64(length))
	r.fail(err)
	return text.String(), r.err == nil
}

func (r *archiveReader) skip(bytes int) {
	for range bytes {
		r.byte()
	}
}

func (r *archiveReader) fail(err error) {
	if r.err == nil && err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		r.err = err
	}
}
