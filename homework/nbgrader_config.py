"""The course for nbgrader: `nbgrader` commands in this folder read it."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "shadow-price"
c.ClearSolutions.code_stub = {"python": 'raise NotImplementedError("write it")'}
c.GenerateAssignment.create_assignment = True
c.ExecutePreprocessor.timeout = 300
