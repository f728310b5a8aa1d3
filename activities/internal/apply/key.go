package apply

import (
	"bytes"
	"encoding/binary"
)

// keyForm says how the text of a key column becomes the same for equal values.
type keyForm byte

const (
	asIs    keyForm = iota // equal values have equal texts
	numeric                // 1.0 = 1.00
	float                  // 0 = -0
	padded                 // character(n): trailing blanks do not count
	unknown                // no normal form is known here
)

// Object ids of built-in types, which never change.
const (
	oidBool, oidBytea, oidChar, oidName, oidInt8, oidInt2, oidInt4 = 16, 17, 18, 19, 20, 21, 23
	oidText, oidOID, oidCIDR, oidFloat4, oidFloat8, oidMacaddr8    = 25, 26, 650, 700, 701, 774
	oidMoney, oidMacaddr, oidInet, oidBpchar, oidVarchar, oidDate  = 790, 829, 869, 1042, 1043, 1082
	oidTime, oidTimestamp, oidTimestamptz, oidBit, oidVarbit       = 1083, 1114, 1184, 1560, 1562
	oidNumeric, oidUUID, oidLSN                                    = 1700, 2950, 3220
)

// formOf knows the types for which text decides equality. Everything else, arrays and ranges included, is unknown.
func formOf(c column) keyForm {
	if c.enum {
		return asIs
	}
	switch c.base {
	case oidText, oidVarchar, oidName:
		if c.fuzzy {
			return unknown
		}
		return asIs
	case oidBpchar:
		if c.fuzzy {
			return unknown
		}
		return padded
	case oidBool, oidBytea, oidChar, oidInt8, oidInt2, oidInt4, oidOID, oidCIDR, oidMacaddr8, oidMoney, oidMacaddr, oidInet,
		oidDate, oidTime, oidTimestamp, oidTimestamptz, oidBit, oidVarbit, oidUUID, oidLSN:
		return asIs
	case oidNumeric:
		return numeric
	case oidFloat4, oidFloat8:
		return float
	}
	return unknown
}

// normal is the same for equal values.
func (f keyForm) normal(text []byte) []byte {
	switch f {
	case numeric:
		if bytes.IndexByte(text, '.') < 0 {
			return text
		}
		return bytes.TrimSuffix(bytes.TrimRight(text, "0"), []byte("."))
	case float:
		if string(text) == "-0" {
			return text[1:]
		}
	case padded:
		return bytes.TrimRight(text, " ")
	case asIs, unknown:
	}
	return text
}

// appendKey appends a form of the key that is the same for equal keys, if the table is not serial. An event has a value
// for each key column.
func (t *table) appendKey(to []byte, image row) []byte {
	for i, column := range t.key {
		text := t.norms[i].normal(image[column].Data)
		if len(t.key) > 1 {
			to = binary.AppendUvarint(to, uint64(len(text)))
		}
		to = append(to, text...)
	}
	return to
}

// sameKey compares texts.
func (t *table) sameKey(a, b row) bool {
	for _, column := range t.key {
		if !bytes.Equal(a[column].Data, b[column].Data) {
			return false
		}
	}
	return true
}
