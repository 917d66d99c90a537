/* `Arena` as Python sees it: what rows are made with. Never here: how it is done (`arena.c`). */

#include "native.h"

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) || (kwargs != NULL && PyDict_GET_SIZE(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "an Arena begins empty");
        return NULL;
    }
    return type->tp_alloc(type, 0); /* all zero */
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    arena_free(&((ArenaObject *)self)->arena); /* its rows keep it for as long as they live */
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *waste(PyObject *self, void *Py_UNUSED(none))
{
    return PyLong_FromSize_t(arena_waste(&((ArenaObject *)self)->arena));
}

static PyObject *allowance(PyObject *self, void *Py_UNUSED(none))
{
    return PyLong_FromSize_t(arena_allowance(&((ArenaObject *)self)->arena));
}

static PyObject *repr(PyObject *self)
{
    const struct arena *arena = &((ArenaObject *)self)->arena;
    return PyUnicode_FromFormat("<Arena live=%zu waste=%zu B>", arena->live, arena_waste(arena));
}

static PyGetSetDef getters[] = {
    {"waste", waste, NULL, "The bytes taken beyond those of living entries.", NULL},
    {"allowance", allowance, NULL, "How much of them may be; the rest is cleaned up.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(doc, "The memory of the records of a store; see arena.h.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc}, {Py_tp_new, new},         {Py_tp_dealloc, dealloc},
    {Py_tp_repr, repr},       {Py_tp_getset, getters},  {0, NULL},
};

PyType_Spec arena_spec = {
    .name = "kvcache.compiled.native.Arena",
    .basicsize = sizeof(ArenaObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
