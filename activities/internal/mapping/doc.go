// Package mapping resolves what a definition says about objects: which tables, schemas and columns of the source are
// meant, what they are called on the target, and which rows and changes of them are wanted.
//
// Resolve is pure: tables in, selection and problems out. Read asks the source for what Resolve needs, and for what can
// only be wrong there: parents that are not selected, names that two things would get. Meet asks the target which of the
// tables are there already and how they differ. Nothing is changed on either side, and the same definition over the same
// servers means the same whenever it is asked: every step that needs it before the plan asks anew, later ones read what the
// plan has put into the ledger.
package mapping
