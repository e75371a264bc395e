;;; emacs_driver.el --- eglot in batch, for tests  -*- lexical-binding: t -*-

;; Reads one form a line from standard input and prints a line "=> " with what it returns, or "!> " with its error, as JSON.
;; Eglot has no inline completion of its own: the three functions that ask, accept and type are what a user would have to write.

(setq native-comp-jit-compilation nil) ; or it compiles in the background and writes into the home folder
(require 'eglot)
(setq eglot-sync-connect t ; with a number, a line of the server on its standard error would end the wait
      eglot-connect-timeout 60
      eglot-autoshutdown nil
      eglot-autoreconnect nil
      create-lockfiles nil
      make-backup-files nil
      auto-save-default nil)
(electric-indent-mode -1)

(defun driver-start (file command options)
  "Open FILE in Python mode and start the server COMMAND, a vector, with initialization OPTIONS, in JSON."
  (setq eglot-server-programs
        `((python-mode . (,@(append command nil) :initializationOptions ,(json-parse-string options :object-type 'plist)))))
  (find-file file)
  (python-mode)
  (apply #'eglot (eglot--guess-contact))
  (goto-char (point-max))
  (driver-server))

(defun driver-server ()
  "What the server has said of itself."
  (let ((told (eglot--capabilities (eglot-current-server))))
    (list :encoding (plist-get told :positionEncoding)
          :inline (if (plist-member told :inlineCompletionProvider) t :false)
          :name (plist-get (eglot--server-info (eglot-current-server)) :name)
          :version (mapconcat #'number-to-string (alist-get 'eglot package--builtin-versions) ".")
          :pid (process-id (jsonrpc--process (eglot-current-server))))))

(defun driver-type (text)
  "Type TEXT key by key."
  (dolist (key (string-to-list text))
    (setq last-command-event key)
    (undo-boundary)
    (if (eq key ?\n) (newline) (call-interactively #'self-insert-command))))

(defun driver-params ()
  "Of a request for suggestions at point, once the server knows the text."
  (eglot--signal-textDocument/didChange)
  (append (eglot--TextDocumentPositionParams) '(:context (:triggerKind 2))))

(defun driver-ask ()
  "Ask for suggestions at point; the items."
  (plist-get (jsonrpc-request (eglot-current-server) :textDocument/inlineCompletion (driver-params) :timeout 60) :items))

(defvar driver-late nil "What became of the request that `driver-ask-later' sent: nil, `items' or an error code.")

(defun driver-ask-later ()
  "Ask for suggestions at point and do not wait."
  (setq driver-late nil)
  (jsonrpc-async-request
   (eglot-current-server) :textDocument/inlineCompletion (driver-params)
   :success-fn (lambda (_answer) (setq driver-late "items"))
   :error-fn (lambda (told) (setq driver-late (plist-get told :code))))
  nil)

(defun driver-insert (item)
  "Put the text of ITEM into the buffer."
  (let ((region (eglot-range-region (plist-get item :range))))
    (undo-boundary)
    (delete-region (car region) (cdr region))
    (goto-char (car region))
    (insert (plist-get item :insertText))
    (eglot--signal-textDocument/didChange)))

(defun driver-accept (item)
  "Take ITEM: its text, then its command."
  (driver-insert item)
  (eglot-execute (eglot-current-server) (plist-get item :command)))

(defun driver-request (method)
  "What the server answers to METHOD without parameters."
  (jsonrpc-request (eglot-current-server) method eglot--{} :timeout 60))

(defun driver-text ()
  (buffer-substring-no-properties (point-min) (point-max)))

(defun driver-stop ()
  "Shut the server down and wait for its end; its exit code and what it wrote on its standard error.
`eglot-shutdown' kills a server that has not ended 0.1 s after `exit'."
  (let* ((server (eglot-current-server))
         (process (jsonrpc--process server))
         (errors (jsonrpc-stderr-buffer server)))
    (setf (eglot--shutdown-requested server) t)
    (jsonrpc-request server :shutdown nil :timeout 60)
    (jsonrpc-notify server :exit nil)
    (while (process-live-p process) (accept-process-output nil 0.1))
    (list :code (process-exit-status process)
          :stderr (with-current-buffer errors
                    (replace-regexp-in-string "\\`\n?Process .* stderr finished\n\\'" "" (buffer-string))))))

;; Emacs in batch may turn in circles at the end of its input where a child has ended before: so the driver says this form.
(defun driver-quit ()
  (set-buffer-modified-p nil)
  (kill-emacs 0))

(defun driver-say (mark value)
  (let ((json (json-serialize value :null-object nil :false-object :false)))
    (princ (concat mark (replace-regexp-in-string
                         "[^[:ascii:]]"
                         (lambda (found)
                           (mapconcat (lambda (unit) (format "\\u%04x" unit))
                                      (let ((code (string-to-char found)))
                                        (if (< code #x10000)
                                            (list code)
                                          (list (+ #xd7c0 (ash code -10)) (+ #xdc00 (logand code #x3ff)))))))
                         (decode-coding-string json 'utf-8) t t)
                   "\n"))))

(while t
  (let ((line (condition-case nil (read-from-minibuffer "") (end-of-file (driver-quit)))))
    (condition-case problem
        (driver-say "=> " (vector (eval (read line) t)))
      (error (driver-say "!> " (vector (error-message-string problem)))))))
