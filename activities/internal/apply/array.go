package apply

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/pgdts/pgdts/activities/internal/wal"
)

// arrayOf has the types that values go to the target in arrays of. Whole numbers are sent as such, since reading their texts is
// much of the server's work for narrow rows; everything else is sent as the text that came.
var arrayOf = map[uint32]uint32{oidText: 1009, oidInt2: 1005, oidInt4: 1007, oidInt8: 1016}

var bytesOf = map[uint32]int{oidInt2: 2, oidInt4: 4, oidInt8: 8}

// sentAs is how a value of a type of the source goes to a column of a built-in type. A number that is too large for the
// column is sent all the same, and refused by the cast to it.
func sentAs(source, column uint32) uint32 {
	if bytesOf[source] > 0 && bytesOf[column] > 0 {
		return source
	}
	return oidText
}

// appendArray writes one column of the rows as an array in the binary format: dimensions, whether there are nulls, element
// type, length, lower bound, and each element behind its length.
func appendArray(to []byte, rows []rowChange, column int, image bool, element uint32) ([]byte, error) {
	to = binary.BigEndian.AppendUint32(to, 1)
	to = binary.BigEndian.AppendUint32(to, 1)
	to = binary.BigEndian.AppendUint32(to, element)
	to = binary.BigEndian.AppendUint32(to, uint32(len(rows)))
	to = binary.BigEndian.AppendUint32(to, 1)
	size := bytesOf[element]
	for i := range rows {
		v := &rows[i].at
		if image {
			v = &rows[i].image
		}
		value := &(*v)[column]
		switch {
		case value.Kind != wal.Text:
			to = append(to, 0xff, 0xff, 0xff, 0xff)
		case size == 0:
			to = binary.BigEndian.AppendUint32(to, uint32(len(value.Data)))
			to = append(to, value.Data...)
		default:
			number, err := strconv.ParseInt(string(value.Data), 10, 8*size)
			if err != nil {
				return to, fmt.Errorf("the source sent %q as a number of %d bytes", value.Data, size)
			}
			to = binary.BigEndian.AppendUint32(to, uint32(size))
			for shift := 8 * (size - 1); shift >= 0; shift -= 8 {
				to = append(to, byte(number>>shift))
			}
		}
	}
	return to, nil
}
