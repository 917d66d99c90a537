/* The module. Here lives what makes types a module of. Never here: what they do. */

#include "native.h"

static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type == NULL ? -1 : PyModule_AddType(module, *type);
}

static int native_exec(PyObject *module)
{
    NativeState *state = PyModule_GetState(module);
    if (add_type(module, &arena_spec, &state->arena_type) < 0 || add_type(module, &rows_spec, &state->rows_type) < 0) {
        return -1;
    }
    return add_type(module, &reads_spec, &state->reads_type) < 0 ? -1
                                                                 : add_type(module, &writes_spec, &state->writes_type);
}

static int native_traverse(PyObject *module, visitproc visit, void *arg)
{
    NativeState *state = PyModule_GetState(module);
    Py_VISIT(state->arena_type);
    Py_VISIT(state->rows_type);
    Py_VISIT(state->reads_type);
    Py_VISIT(state->writes_type);
    return 0;
}

static int native_clear(PyObject *module)
{
    NativeState *state = PyModule_GetState(module);
    Py_CLEAR(state->arena_type);
    Py_CLEAR(state->rows_type);
    Py_CLEAR(state->reads_type);
    Py_CLEAR(state->writes_type);
    return 0;
}

static PyModuleDef_Slot native_slots[] = {
    {Py_mod_exec, native_exec},
    {0, NULL},
};

static PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "kvcache.compiled.native",
    .m_doc = "What a node does most often, compiled; optional.",
    .m_size = sizeof(NativeState),
    .m_slots = native_slots,
    .m_traverse = native_traverse,
    .m_clear = native_clear,
};

PyMODINIT_FUNC PyInit_native(void)
{
    return PyModuleDef_Init(&native_module);
}
