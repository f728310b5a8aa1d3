package mapping

// Kind is what a problem is about; the precheck makes one item of the problems of a kind.
type Kind string

// The kinds. The zero value counts as KindSelection.
const (
	KindSelection Kind = "selection" // an entry or a pattern means nothing that is there
	KindNames     Kind = "names"     // two things get one name, or a name is too long
	KindColumns   Kind = "columns"   // unknown ones, and ones that cannot be left out
	KindParents   Kind = "parents"   // a selected table refers to one that is not selected
	KindFilter    Kind = "filter"    // where
	KindTransform Kind = "transform" // set and dropIf
	KindMerge     Kind = "merge"     // several tables become one
	KindConflict  Kind = "conflict"  // the target's table is there and does not fit, or is not there
)
